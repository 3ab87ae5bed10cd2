"""Against the number of events in a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plots.figures import Point, point
from plots.whole_worker import bench, plans_and_keys

SIZES = (1, 10, 100, 1_000)
ALL_SIZES = (1, 3, 10, 30, 100, 300, 1_000)
_EVENTS_MAX, _RECORDS_MAX = 200_000, 60_000
_ORGANIZATIONS = 48


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each size, one after the other on one stack."""
    with bench() as at:
        at.learn(plans_and_keys(range(0, _ORGANIZATIONS, 2)))
        for in_record in asked:
            events = min(_EVENTS_MAX, in_record * _RECORDS_MAX)
            yield point(in_record, at.book(events, in_record, _ORGANIZATIONS).told())
