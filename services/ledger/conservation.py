"""Conservation (invariant I1), watched: every offset is covered, every recorded event has its charge.

Entries and covered ranges are append-only, so a look counts what came since the last one. But whoever owns the tables,
or their disk, can change what was counted: for a part of each look ranges are counted again, one lap over all of them
after the other, each lap in place of the count before. Old ranges are merged meanwhile, which changes no count; where
that reaches the very range at which a count stands, it begins anew.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import SQLAlchemyError

from services.runtime.background import repeat
from services.runtime.logs import logger

_log = logger(__name__)

REFRESH_SECONDS = 5.0
STALE_SECONDS = 60.0
"""After so long without a look that succeeded, such as one that hangs, nothing is known."""
RECOUNT_SECONDS = 0.5
"""How long a look goes on counting again."""
RECOUNTED_RANGES = 500
"""How many ranges one statement counts again, at most: a look goes beyond its time by one of them."""
RECOUNTED_EVENTS = 20_000
"""Nor many more events: a merged range has as many."""
_RECOUNTED_FOR = timedelta(hours=1)
"""Nor what was booked over a much longer time: charges are looked for among all that were recorded in it."""
# The first look counts all charges there are.
_LOOK_SECONDS_MAX = 300

_PARTITIONS = text(
    "SELECT source_partition_id, partition, origin_offset, next_offset"
    " FROM ledger.source_partition WHERE topic = :topic"
)
_RANGES = text(
    "SELECT coalesce(sum(to_offset - from_offset), 0)::bigint AS covered,"
    " coalesce(sum(recorded), 0)::bigint AS recorded, max(from_offset) AS newest,"
    " (array_agg(to_offset ORDER BY from_offset DESC))[1] AS ends, max(to_offset) AS upto,"
    " min(since) AS since, max(recorded_at) AS until"
    " FROM (SELECT *, sum(events) OVER (ORDER BY from_offset) - events AS events_before,"
    "   row_number() OVER (ORDER BY from_offset) AS place, first_value(since) OVER (ORDER BY from_offset) AS begun"
    "   FROM (SELECT *, coalesce(first_recorded_at, recorded_at) AS since FROM ledger.covered_range"
    "     WHERE source_partition_id = :id AND from_offset > :newest ORDER BY from_offset LIMIT :most) AS next"
    " ) AS stretch"
    # The first one in any case: whatever it holds, the lap must go on.
    " WHERE CAST(:most AS bigint) IS NULL OR place = 1 OR events_before < :events AND recorded_at <= begun + :span"
)
_NEWEST = text(
    "SELECT from_offset, to_offset FROM ledger.covered_range"
    " WHERE source_partition_id = :id AND from_offset <= :newest ORDER BY from_offset DESC LIMIT 1"
)
_CHARGES = text(
    "SELECT count(*) FROM ledger.entry WHERE kind = 'charge' AND source_partition_id = :id"
    " AND source_offset >= :seen AND source_offset < :upto AND recorded_at BETWEEN :since AND :until"
)
# The entries of a range are booked in its transaction, so with its very time; a minute on either side costs little, and
# spares whoever brings both back by hand, one after the other, an alarm.
_CLOCK_MARGIN = timedelta(minutes=1)


class _Counted(NamedTuple):
    """What has been counted of one partition of one cluster."""

    newest: int
    """Where the newest range begins that was counted."""
    ends: int
    """Where that one ends."""
    seen: int
    """The first offset after all of them."""
    covered: int = 0
    miscounted: int = 0
    """By how much charges and what ranges say of them differ, stretch by stretch."""

    @classmethod
    def nothing(cls, partition: Row[Any]) -> _Counted:
        """Before the first range."""
        return cls(partition.origin_offset - 1, partition.origin_offset, partition.origin_offset)


class ConservationWatch:
    """Counts what the books of each partition do not account for."""

    def __init__(self, engine: Engine, topic: str) -> None:
        """Watches the partitions of ``topic`` in every cluster there ever was."""
        self._engine = engine
        self._topic = topic
        self._residuals: dict[int, int] | None = None
        self._looked_at = float("-inf")
        self._counted: dict[int, _Counted] = {}
        self._lap: deque[int] = deque()
        self._again: _Counted | None = None

    @property
    def residuals(self) -> dict[int, int] | None:
        """By number of partition, 0 where all is well; None while it is not known."""
        return self._residuals if time.monotonic() - self._looked_at <= STALE_SECONDS else None

    def run(self, stop: threading.Event) -> None:
        """Look every few seconds until ``stop`` is set."""
        repeat(self.look, REFRESH_SECONDS, stop)

    def look(self) -> None:
        """Bring ``residuals`` up to date, from one snapshot; None when the database is away."""
        try:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = '{_LOOK_SECONDS_MAX}s'"))
                self._residuals = self._look(connection)
        except SQLAlchemyError as error:
            _log.warning("conservation cannot be checked", error=type(error).__name__)
            self._residuals = None
        self._looked_at = time.monotonic()

    def _look(self, connection: Connection) -> dict[int, int]:
        rows = connection.execute(_PARTITIONS, {"topic": self._topic}).all()
        partitions = {row.source_partition_id: row for row in rows}
        for key, row in partitions.items():
            self._counted[key] = _counted_on(connection, key, _still(connection, row, self._counted.get(key)))
        self._recount(connection, partitions)
        residuals: dict[int, int] = defaultdict(int)
        for key, row in partitions.items():
            counted = self._counted[key]
            uncovered = row.next_offset - row.origin_offset - counted.covered
            # Absolute, so that one fault never hides another.
            residuals[row.partition] += abs(uncovered) + counted.miscounted
        return dict(residuals)

    def _recount(self, connection: Connection, partitions: Mapping[int, Row[Any]]) -> None:
        """Go on with the lap, or with a new one, until it ends or the time for it is over."""
        until = time.monotonic() + RECOUNT_SECONDS
        self._lap = self._lap or deque(partitions)
        while self._lap:
            key = self._lap[0]
            before = _still(connection, partitions[key], self._again)
            self._again = _counted_on(connection, key, before, RECOUNTED_RANGES)
            if self._again == before or self._again.newest >= self._counted[key].newest:
                self._counted[key], self._again = self._again, None
                self._lap.popleft()
            if time.monotonic() >= until:
                return


def _still(connection: Connection, partition: Row[Any], counted: _Counted | None) -> _Counted:
    """What was counted, or nothing, where the range at which the count stands is not what it was."""
    nothing = _Counted.nothing(partition)
    if counted is None or counted == nothing:
        return nothing
    where = {"id": partition.source_partition_id, "newest": counted.newest}
    return counted if connection.execute(_NEWEST, where).first() == (counted.newest, counted.ends) else nothing


def _counted_on(connection: Connection, partition: int, counted: _Counted, most: int | None = None) -> _Counted:
    """What has been counted with the ranges that follow, ``most`` of them at most."""
    where = {"id": partition, "newest": counted.newest, "seen": counted.seen}
    bounds = {"most": most, "events": RECOUNTED_EVENTS, "span": _RECOUNTED_FOR}
    ranges = connection.execute(_RANGES, where | bounds).one()
    if ranges.newest is None:
        return counted
    upto = max(counted.seen, ranges.upto)
    times = {"since": ranges.since - _CLOCK_MARGIN, "until": ranges.until + _CLOCK_MARGIN}
    charges = connection.execute(_CHARGES, where | times | {"upto": upto}).scalar_one()
    return _Counted(
        ranges.newest,
        ranges.ends,
        upto,
        counted.covered + ranges.covered,
        counted.miscounted + abs(ranges.recorded - charges),
    )
