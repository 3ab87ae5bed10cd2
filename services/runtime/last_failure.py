"""What a process keeps failing at, as its readiness tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class _Failure(NamedTuple):
    cause: str
    at: float


class LastFailure:
    """The last failure of something that is done over and over, until it succeeds again. Safe to use across threads."""

    def __init__(
        self, what: str, *, forgotten_after: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``what`` is told with it, such as "booking". None: whoever fails tries again by itself.

        What is done only when somebody asks for it is forgotten after so many seconds: who is not ready is asked no
        more, and would never find out that it is well again.
        """
        self._what = what
        self._forgotten_after = forgotten_after
        self._clock = clock
        self._failure: _Failure | None = None

    def happened(self, error: Exception) -> None:
        """It failed."""
        self._failure = _Failure(_cause(error), self._clock())

    def over(self) -> None:
        """It succeeded."""
        self._failure = None

    def unready(self) -> str | None:
        """What fails and why, for /readyz; None where the last try succeeded, or was too long ago."""
        failure = self._failure
        if failure is None:
            return None
        if self._forgotten_after is not None and self._clock() - failure.at > self._forgotten_after:
            return None
        return f"{self._what} failed the last time ({failure.cause})"


def _cause(error: Exception) -> str:
    """The kind of error, and PostgreSQL's code for it: no text, which may hold what somebody sent."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    return type(cause).__name__ if state is None else f"{type(cause).__name__}, SQLSTATE {state}"
