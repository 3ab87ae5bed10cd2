"""Conservation (invariant I1), watched: every offset is covered, every recorded event has its charge.

Entries and covered ranges are append-only, so each range is counted once, when it is first seen; a look costs what came
since the last one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from services.runtime.background import repeat
from services.runtime.logs import logger

_log = logger(__name__)

REFRESH_SECONDS = 5.0
# The first look counts all charges there are.
_LOOK_SECONDS_MAX = 300

_PARTITIONS = text(
    "SELECT source_partition_id, partition, origin_offset, next_offset"
    " FROM ledger.source_partition WHERE topic = :topic"
)
_NEW_RANGES = text(
    "SELECT coalesce(sum(to_offset - from_offset), 0)::bigint AS covered,"
    " coalesce(sum(recorded), 0)::bigint AS recorded, max(to_offset) AS upto, min(recorded_at) AS since"
    " FROM ledger.covered_range WHERE source_partition_id = :id AND from_offset >= :seen AND to_offset <= :next"
)
_NEW_CHARGES = text(
    "SELECT count(*) FROM ledger.entry WHERE kind = 'charge' AND source_partition_id = :id"
    " AND source_offset >= :seen AND source_offset < :upto AND recorded_at >= :since"
)
# The entries of a range are booked in its transaction, so with its time; the margin is for a clock that was set.
_CLOCK_MARGIN = timedelta(hours=1)


@dataclass
class _Counted:
    """What has been counted of one partition of one cluster, up to the offset ``seen``."""

    seen: int
    covered: int = 0
    recorded: int = 0
    charges: int = 0


class ConservationWatch:
    """Counts what the books of each partition do not account for."""

    def __init__(self, engine: Engine, topic: str) -> None:
        """Watches the partitions of ``topic`` in every cluster there ever was."""
        self.residuals: dict[int, int] | None = None
        """By number of partition, 0 where all is well; None while it is not known."""
        self._engine = engine
        self._topic = topic
        self._counted: dict[int, _Counted] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every few seconds until ``stop`` is set."""
        repeat(self.look, REFRESH_SECONDS, stop)

    def look(self) -> None:
        """Bring ``residuals`` up to date, from one snapshot; None when the database is away."""
        try:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = '{_LOOK_SECONDS_MAX}s'"))
                self.residuals = self._look(connection)
        except SQLAlchemyError as error:
            _log.warning("conservation cannot be checked", error=type(error).__name__)
            self.residuals = None

    def _look(self, connection: Connection) -> dict[int, int]:
        residuals: dict[int, int] = defaultdict(int)
        for row in connection.execute(_PARTITIONS, {"topic": self._topic}).all():
            counted = self._counted.get(row.source_partition_id, _Counted(row.origin_offset))
            counted = self._counted[row.source_partition_id] = _counted_on(connection, row, counted)
            uncovered = row.next_offset - row.origin_offset - counted.covered
            # Absolute, so that one fault never hides another.
            residuals[row.partition] += abs(uncovered) + abs(counted.recorded - counted.charges)
        return dict(residuals)


def _counted_on(connection: Connection, row: Any, counted: _Counted) -> _Counted:
    where = {"id": row.source_partition_id, "seen": counted.seen}
    new = connection.execute(_NEW_RANGES, where | {"next": row.next_offset}).one()
    if new.upto is None:
        return counted
    since = new.since - _CLOCK_MARGIN
    charges = connection.execute(_NEW_CHARGES, where | {"upto": new.upto, "since": since}).scalar_one()
    return _Counted(new.upto, counted.covered + new.covered, counted.recorded + new.recorded, counted.charges + charges)
