"""What a rate card would move if it were published: entries that are booked, re-rated with it, read-only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import dict_row

from services.books import columns, registry_log
from services.books.entry_rows import Row, attribution_columns, event_of
from services.domain.directory import Directory
from services.domain.entries import attribution
from services.domain.model_prices import UnpricedError
from services.domain.rate_card import RateCard, end_of_force
from services.domain.rating import rate
from services.proof.entries import COLUMNS

_FETCHED_ROWS = 5_000
_ROWS_PER_REPORT = 5_000
_IN_WINDOW = f"""
SELECT {columns.listed(COLUMNS, "e")}
FROM ledger.entry e LEFT JOIN ledger.entry r ON r.adjusts = e.entry_id AND r.kind = 'reversal'
WHERE e.kind <> 'reversal' AND r.adjusts IS NULL AND e.occurred_at >= %(start)s
  AND (%(end)s::timestamptz IS NULL OR e.occurred_at < %(end)s)
"""


@dataclass
class Impact:
    """What would become of the current entries in a card's time."""

    entries: int = 0
    """Booked in the time for which the card would be in force."""
    corrected: int = 0
    """Of these, how many would be put right by a reversal and a correction, be it only for the card's name."""
    moved: int = 0
    """Of these, how many would cost another amount."""
    unpriced: int = 0
    """How many would stand as they are, because the card does not list their model."""
    organizations: int = 0
    """Whose amounts would change."""
    list_mc: int = 0
    """By how much the list price of all of them would rise; negative: fall."""
    charged_mc: int = 0
    """By how much what is charged would rise; negative: be given back."""


def card_impact(
    connection: Connection[Any], card: RateCard, *, report: Callable[[int], None] = lambda _done: None
) -> Impact:
    """Re-rate, in one snapshot, what ``card`` would be in force for. Nothing is written. Raises psycopg.Error."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction(force_rollback=True):
        directory = registry_log.directory_upto(connection)
        directory.apply(directory.seq + 1, card)
        with connection.cursor("card_impact", row_factory=dict_row) as cursor:
            cursor.itersize = _FETCHED_ROWS
            window = {"start": card.effective_from, "end": end_of_force(card, directory.cards)}
            return rerated(cursor.execute(_IN_WINDOW, window, binary=True), directory, report)


def rerated(rows: Iterable[Row], directory: Directory, report: Callable[[int], None] = lambda _done: None) -> Impact:
    """What becomes of current entries that are rated with ``directory``."""
    impact = Impact()
    organizations = set()
    for row in rows:
        impact.entries += 1
        if impact.entries % _ROWS_PER_REPORT == 0:
            report(impact.entries)
        try:
            now = attribution(rate(event_of(row), directory))
        except UnpricedError:
            impact.unpriced += 1
            continue
        if any(row[name] != value for name, value in attribution_columns(now).items()):
            impact.corrected += 1
        list_mc, charged_mc = now.amounts.list_mc - row["list_mc"], now.amounts.charged_mc - row["charged_mc"]
        if list_mc or charged_mc:
            impact.moved += 1
            impact.list_mc += list_mc
            impact.charged_mc += charged_mc
            organizations.add(row["org_id"])
    impact.organizations = len(organizations)
    return impact
