"""Dead letters that have had their time, removed; how many there were stays, in the rows that conservation counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection

from services.books import totals as count
from services.books.totals import Totals
from services.metering.booking.ledger_writer import add_totals
from services.metering.dead_letters.resend import USELESS

LETTERS_MAX = 1_000
"""How many one transaction removes."""
_SHARD = -2
"""The metric totals' own shard."""


def remove(connection: Connection[Any], days: int, replayable_days: int | None, *, now: datetime | None = None) -> int:
    """Remove the oldest of those that failed more than so many ``days`` ago; how many that were, 0 where none is left.

    One that a replay could still book is kept for ``replayable_days``, None: for ever; and one that its topic does not
    have, until it has it. Raises psycopg.Error.
    """
    now = now or datetime.now(UTC)
    before = now - timedelta(days=days)
    replayable_before = None if replayable_days is None else now - timedelta(days=max(days, replayable_days))
    totals: Totals = Totals()
    with connection.transaction():
        rows = connection.execute(
            "SELECT reason, letters FROM ledger.remove_dead_letters(%s, %s, %s, %s)",
            (before, replayable_before, [reason.value for reason in USELESS], LETTERS_MAX),
        ).fetchall()
        for reason, letters in rows:
            count.removed_letters(totals, reason, letters)
        add_totals(connection, totals, shard=_SHARD)
    return sum(letters for _, letters in rows)
