"""One worker, and two that share the partitions: on cores that PostgreSQL and the broker need, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plots.figures import Point, point
from plots.whole_worker import bench, plans_and_keys

SIZES = (1, 2)
_EVENTS, _RECORD_EVENTS = 200_000, 100
_ORGANIZATIONS = 480


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each number, one after the other on one stack."""
    with bench() as at:
        at.learn(plans_and_keys(range(0, _ORGANIZATIONS, 2)))
        for workers in asked:
            yield point(workers, at.book(_EVENTS, _RECORD_EVENTS, _ORGANIZATIONS, workers).told())
