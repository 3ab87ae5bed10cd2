"""Positions in the feed that callers give back."""

from __future__ import annotations

from services.ledger.refusals import Code
from services.ledger.repository import EntryRepository
from services.runtime.refusals import Refusal


def require_stands(entries: EntryRepository, position: int) -> None:
    """Raise 409 ``ahead_of_ledger`` where no entry has the position (any more): nothing follows on it."""
    last = entries.last_position(position)
    if last < position:
        raise Refusal(
            Code.AHEAD_OF_LEDGER,
            f"No entry has the position {position}: the ledger was set back, and the last one before it is {last}. "
            "Take back what you have of positions above that one, and go on after it.",
        )
