"""How a command ends when it cannot do what it was asked."""

from __future__ import annotations

USAGE, AWAY = 2, 3
"""Exit statuses: wrong options or settings; a database, broker or service that does not answer."""


class CommandFailed(Exception):
    """The command cannot do what it was asked; the message says why, and what would help."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        """``status`` is what the command ends with."""
        super().__init__(message)
        self.status = status
