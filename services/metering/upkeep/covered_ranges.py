"""Covered ranges, merged: one row for many batches, with the sums of what they say (invariant I1 stays what it is).

Which of them go together is decided here, and pure. That they meet end to end, and that no count is lost, is seen to by
the function that merges them, in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

MERGED_EVENTS_MAX = 20_000
"""A merged range holds no more events than can be counted again in a moment; a single batch may."""
MERGED_FOR = timedelta(hours=1)
"""Nor was it booked over a longer time: its charges are found by when they were recorded."""
_RANGES_MIN = 100
"""The last ones of a partition are left until there are so many: what is merged today is not merged again tomorrow."""
_READ = 2_000

_SELECT = """
SELECT from_offset, to_offset, events, coalesce(first_recorded_at, recorded_at) AS since, recorded_at AS until,
  recorded_at < now() - make_interval(secs => %(age)s) AS settled
FROM ledger.covered_range WHERE source_partition_id = %(id)s AND from_offset >= %(start)s
ORDER BY from_offset LIMIT %(most)s
"""


class Range(NamedTuple):
    """One covered range ``[from_offset, to_offset)``, and when the first and the last of its batches were booked."""

    from_offset: int
    to_offset: int
    events: int
    since: datetime
    until: datetime
    settled: bool
    """Whether it is old enough to be merged."""


def groups(ranges: Iterable[Range]) -> Iterator[list[Range]]:
    """The ranges of one partition, in their order, in the groups that may each become one range.

    What does not meet end to end stays apart, and so does a range without events: that is a note of a loss.
    """
    group: list[Range] = []
    events = 0
    for each in ranges:
        if group and not (_meets(group[-1], each) and _fits(group[0], events, each)):
            yield group
            group, events = [], 0
        group.append(each)
        events += each.events
    if group:
        yield group


def _meets(before: Range, after: Range) -> bool:
    return after.from_offset == before.to_offset and min(before.events, after.events) > 0


def _fits(first: Range, events: int, after: Range) -> bool:
    return events + after.events <= MERGED_EVENTS_MAX and after.until - first.since <= MERGED_FOR


class RangeMerger:
    """Merges what is old enough, partition by partition, and remembers how far each is done."""

    def __init__(self, age_seconds: float) -> None:
        """Nothing is merged that was booked within the last ``age_seconds``."""
        self._age = age_seconds
        self._done: dict[int, int] = {}
        """By partition: where the first range begins that may still be merged."""

    def step(self, connection: Connection[Any]) -> int:
        """Merge all there is to merge; how many ranges are gone. Raises psycopg.Error."""
        partitions = connection.execute("SELECT source_partition_id FROM ledger.source_partition ORDER BY 1").fetchall()
        return sum(self._merge(connection, partition) for (partition,) in partitions)

    def _merge(self, connection: Connection[Any], partition: int) -> int:
        gone = 0
        while True:
            read = self._settled(connection, partition)
            *whole, last = list(groups(read)) or [[]]
            fewer = sum(_merge(connection, partition, group) for group in whole)
            if len(last) >= _RANGES_MIN:
                fewer += _merge(connection, partition, last)
            if last:
                self._done[partition] = last[0].from_offset
            gone += fewer
            if len(read) < _READ or not fewer:
                return gone

    def _settled(self, connection: Connection[Any], partition: int) -> list[Range]:
        wanted = {"id": partition, "start": self._done.get(partition, 0), "age": self._age, "most": _READ}
        with connection.cursor(row_factory=class_row(Range)) as cursor:
            return list(takewhile(lambda each: each.settled, cursor.execute(_SELECT, wanted)))


def _merge(connection: Connection[Any], partition: int, group: Sequence[Range]) -> int:
    """How many rows are fewer now. One statement, so a transaction of its own: killed in it, nothing has happened."""
    if len(group) < 2:
        return 0
    where = (partition, group[0].from_offset, group[-1].to_offset)
    row = connection.execute("SELECT ledger.merge_covered_ranges(%s, %s, %s)", where).fetchone()
    return 0 if row is None else max(0, row[0] - 1)
