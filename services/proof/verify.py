"""`byok verify`: reads the ledger in one snapshot and has the pure checkers look at all of it (invariants I1 and I9).

Memory holds two directories and a few thousand rows, however long the ledger is: the database sorts, cursors stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import class_row, dict_row

from services.books import columns, registry_log
from services.books.roll_ups import ROLL_UPS
from services.domain.usage import EventType
from services.proof import feed
from services.proof.entries import COLUMNS, Difference, Ratings, check_chain
from services.proof.reconciliation import (
    CoveredRange,
    Partition,
    RowsAt,
    Total,
    check_books,
    check_totals,
    total_key,
)

_FETCHED_ROWS = 5_000
_ROWS_PER_REPORT = 5_000
_KEPT = 1_000

BY_IDENTITY = ", ".join((*(f'e.{name} COLLATE "C"' for name in columns.IDENTITY), "e.revision", "e.kind DESC"))
"""Entries ``e`` by event, in the order of bytes, which is also Python's order of text; of one event as they came."""

# What no reversal names is current.
_RATED = f"""
SELECT {columns.listed(COLUMNS, "e")}, r.adjusts IS NULL AS is_current
FROM ledger.entry e LEFT JOIN ledger.entry r ON r.adjusts = e.entry_id AND r.kind = 'reversal'
WHERE %(org_id)s::text IS NULL OR e.org_id = %(org_id)s
ORDER BY e.registry_seq
"""
_IDENTITY = columns.listed(columns.IDENTITY)
# Asked of the rows: the database knows an entry by its id, and so not that one event has two charges of two ids.
_CHAINED = f"""
SELECT {columns.listed(COLUMNS, "e")}
FROM ledger.entry e
JOIN (SELECT {_IDENTITY} FROM ledger.entry
      WHERE %(org_id)s::text IS NULL OR org_id = %(org_id)s
      GROUP BY {_IDENTITY} HAVING count(*) > 1 OR bool_or(kind <> 'charge')) i
  USING ({_IDENTITY})
ORDER BY {BY_IDENTITY}
"""
_KNOWN = f"""
SELECT rerated_seq, {registry_log.NEWEST},
  (SELECT count(*) FROM ledger.entry WHERE %(org_id)s::text IS NULL OR org_id = %(org_id)s)
FROM ledger.fence
"""
_PARTITIONS = f"SELECT {', '.join(Partition._fields)} FROM ledger.source_partition ORDER BY source_partition_id"
_RANGES = (
    f"SELECT {', '.join(CoveredRange._fields)} FROM ledger.covered_range ORDER BY source_partition_id, from_offset"
)
_CHARGES_AT = """
SELECT source_partition_id, source_offset AS "offset", count(*) AS how_many FROM ledger.entry
WHERE kind = 'charge' GROUP BY source_partition_id, source_offset ORDER BY source_partition_id, source_offset
"""
# Those that were removed are counted where the range begins that they lay in.
_DEAD_LETTERS_AT = """
SELECT source_partition_id, source_offset AS "offset", sum(letters)::bigint AS how_many
FROM (SELECT source_partition_id, source_offset, count(*) AS letters FROM ledger.dead_letter GROUP BY 1, 2
      UNION ALL SELECT source_partition_id, source_offset, letters FROM ledger.removed_dead_letter) AS letter
GROUP BY source_partition_id, source_offset ORDER BY source_partition_id, source_offset
"""
_TOTALS = "SELECT metric, labels, value FROM ledger.metric_total"
_LABELS = """
jsonb_build_object('event_type', event_type, 'provider', coalesce(provider, ''), 'key_source', key_source,
  'byok_scope', coalesce(byok_scope, ''))
"""
_SUMS = f"""
WITH charge AS (
  SELECT {_LABELS} AS labels, event_type, count(*) AS charges,
    sum(list_mc) AS list_mc, sum(charged_mc) AS charged_mc, sum(saved_mc) AS saved_mc
  FROM ledger.entry WHERE kind = 'charge' GROUP BY labels, event_type
), revised AS (
  -- A reversal says, negated, what stood there before.
  SELECT coalesce(split_part(k.key, ':', 1), '?') AS reason, c.charged_mc + r.charged_mc AS moved,
    c.flags, r.flags AS old_flags
  FROM ledger.entry c
  JOIN ledger.entry r ON r.kind = 'reversal'
    AND (r.org_id, r.event_source, r.event_id, r.revision) = (c.org_id, c.event_source, c.event_id, c.revision)
  LEFT JOIN ledger.registry_change k ON k.seq = c.caused_by_seq
  WHERE c.kind = 'correction'
), letter AS (
  SELECT reason, event_type, count(*) AS letters FROM ledger.dead_letter GROUP BY reason, event_type
  UNION ALL SELECT reason, event_type, letters FROM ledger.removed_dead_letter
), flag AS (
  SELECT unnest(flags) AS flag FROM ledger.entry WHERE kind = 'charge' AND flags <> '{{}}'
  UNION ALL
  SELECT f FROM revised, unnest(flags) AS f WHERE f <> ALL (old_flags)
)
SELECT 'usage_events', jsonb_build_object('event_type', event_type, 'outcome', 'recorded'), sum(charges)
  FROM charge GROUP BY event_type
UNION ALL SELECT 'usage_events', jsonb_build_object('outcome', 'duplicate'), sum(duplicates) FROM ledger.covered_range
UNION ALL SELECT 'usage_events', jsonb_build_object('outcome', 'dead_letter', 'event_type',
    CASE WHEN event_type = ANY (%(event_types)s) AND reason <> 'unsupported_type' THEN event_type
    -- It was none when it was refused and counted, whatever it is by now.
    ELSE 'other' END), sum(letters)
  FROM letter GROUP BY 2
UNION ALL SELECT 'list_mc', labels, list_mc FROM charge
UNION ALL SELECT 'charged_mc', labels, charged_mc FROM charge
UNION ALL SELECT 'saved_mc', labels, saved_mc FROM charge
UNION ALL SELECT 'dead_letters', jsonb_build_object('reason', reason), sum(letters) FROM letter GROUP BY reason
UNION ALL SELECT 'removed_dead_letters', jsonb_build_object('reason', reason), sum(letters)
  FROM ledger.removed_dead_letter GROUP BY reason
UNION ALL SELECT 'credential_flags', jsonb_build_object('flag', flag), count(*) FROM flag GROUP BY flag
UNION ALL SELECT 'corrections', jsonb_build_object('reason', reason), count(*) FROM revised GROUP BY reason
UNION ALL SELECT 'corrected_mc', jsonb_build_object('reason', reason, 'direction',
    CASE WHEN moved > 0 THEN 'charge' ELSE 'refund' END), sum(abs(moved))
  FROM revised WHERE moved <> 0 GROUP BY 2
"""

Report = Callable[[str, int, int | None], None]
"""Hears what is being looked at, how much of it is done, and how much there is, where that is known."""


@dataclass
class Verification:
    """What was found, and how much was looked at."""

    entries: int = 0
    """Entries whose ratings were derived again; reversals are held against what they take back."""
    revised_events: int = 0
    """Events with more than their charge."""
    unpriced: int = 0
    """Current entries that stand although the card in force no longer lists their model."""
    partitions: int = 0
    ranges: int = 0
    totals: int = 0
    roll_ups: int = 0
    registry_seq: int = 0
    """How far the ledger knows the registry log."""
    rerated_seq: int = 0
    """How far late changes are worked off: up to there, current entries are held against full knowledge."""
    seconds: float = 0.0
    differences: int = 0
    first: list[Difference] = field(default_factory=list)
    """The first of them, in the order in which they were found."""

    def note(self, found: Iterable[Difference]) -> None:
        """Take in differences; memory holds the first ones only."""
        for difference in found:
            self.differences += 1
            if len(self.first) < _KEPT:
                self.first.append(difference)


def verify(
    connection: Connection[Any],
    *,
    org_id: str | None = None,
    entries: bool = True,
    conservation: bool = True,
    report: Report = lambda _what, _done, _all: None,
) -> Verification:
    """Look at the whole ledger, or at the entries of one organization. Nothing is written.

    Raises psycopg.Error where the database cannot be read, UnreadableChangeError where its registry log cannot.
    """
    began = time.monotonic()
    result = Verification()
    with snapshot(connection):
        parameters = {"org_id": org_id}
        result.rerated_seq, result.registry_seq, rows = connection.execute(_KNOWN, parameters).fetchone() or (0, 0, 0)
        if entries:
            _check_ratings(connection, parameters, result, rows, report)
            _check_chains(connection, parameters, result, report)
        if conservation:
            _check_conservation(connection, result, report)
            _check_feed(connection, result, report)
    result.seconds = time.monotonic() - began
    return result


@contextmanager
def snapshot(connection: Connection[Any]) -> Iterator[None]:
    """One read-only transaction that sees one state of the database."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction(force_rollback=True):
        # One long statement after the other: sorts may take memory, and compiling them is not worth it.
        connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
        yield


def _stream(connection: Connection[Any], name: str, query: str, row_factory: Any, parameters: Any = None) -> Any:
    cursor = connection.cursor(f"verify_{name}", row_factory=row_factory)
    cursor.itersize = _FETCHED_ROWS
    return cursor.execute(sql.SQL(query), parameters, binary=True)


def _check_ratings(
    connection: Connection[Any], parameters: dict[str, Any], result: Verification, rows: int, report: Report
) -> None:
    full = registry_log.directory_upto(connection, result.rerated_seq)
    ratings = Ratings(registry_log.upto(connection), full, result.rerated_seq)
    with _stream(connection, "entries", _RATED, dict_row, parameters) as cursor:
        result.note(ratings.check(_watched(cursor, "entries", rows, report)))
    result.entries, result.unpriced = ratings.checked, ratings.unpriced


def _check_chains(
    connection: Connection[Any], parameters: dict[str, Any], result: Verification, report: Report
) -> None:
    identity = itemgetter(*columns.IDENTITY)
    with _stream(connection, "chains", _CHAINED, dict_row, parameters) as cursor:
        for _, rows in groupby(_watched(cursor, "revisions", None, report), key=identity):
            result.revised_events += 1
            result.note(check_chain(list(rows)))


def _check_conservation(connection: Connection[Any], result: Verification, report: Report) -> None:
    with connection.cursor(row_factory=class_row(Partition)) as cursor:
        partitions = cursor.execute(_PARTITIONS).fetchall()
    result.partitions = len(partitions)
    with (
        _stream(connection, "ranges", _RANGES, class_row(CoveredRange)) as ranges,
        _stream(connection, "charges", _CHARGES_AT, class_row(RowsAt)) as charges,
        _stream(connection, "letters", _DEAD_LETTERS_AT, class_row(RowsAt)) as letters,
    ):
        counted = _counted(_watched(ranges, "covered ranges", None, report), result)
        result.note(check_books(partitions, counted, charges, letters))
    report("totals", 0, None)
    stored = _totals(connection, _TOTALS, None)
    event_types = {"event_types": [event_type.value for event_type in EventType]}
    result.totals = len(stored)
    result.note(check_totals(stored, _totals(connection, _SUMS, event_types)))


def _check_feed(connection: Connection[Any], result: Verification, report: Report) -> None:
    report("places", 0, None)
    with _stream(connection, "places", feed.PLACES, dict_row) as rows:
        result.note(feed.check_places(rows))
    for roll_up in ROLL_UPS:
        report(f"roll-up {roll_up.view}", 0, None)
        with _stream(connection, roll_up.view, feed.COMPARED[roll_up], dict_row) as rows:
            result.note(feed.check_roll_up(roll_up, rows))
        result.roll_ups += 1


def _totals(connection: Connection[Any], query: str, parameters: dict[str, Any] | None) -> dict[Total, int]:
    totals: dict[Total, int] = {}
    for metric, labels, value in connection.execute(sql.SQL(query), parameters):
        key = total_key(metric, labels)
        totals[key] = totals.get(key, 0) + int(value or 0)
    return totals


def _counted(ranges: Iterable[CoveredRange], result: Verification) -> Iterator[CoveredRange]:
    for covered in ranges:
        result.ranges += 1
        yield covered


def _watched(rows: Iterable[Any], what: str, total: int | None, report: Report) -> Iterator[Any]:
    done = 0
    for done, row in enumerate(rows, start=1):
        if done % _ROWS_PER_REPORT == 0:
            report(what, done, total)
        yield row
    report(what, done, total)
