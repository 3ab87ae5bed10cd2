"""What is wrong with what somebody wrote: an event, a rate card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """What is wrong with one field, by its dotted path; ``field`` is empty where it is the whole."""

    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" if self.field else self.detail


def did_you_mean(near: Sequence[str]) -> str:
    """A question for the end of a sentence about a name that is unknown; nothing where no name is near."""
    return f"; did you mean {' or '.join(near)}?" if near else ""
