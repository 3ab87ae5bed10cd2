"""Against the number of organizations whose events come in turns: throughput, processor time and memory of a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plots.figures import Point, point
from plots.whole_worker import bench, plans_and_keys

SIZES = (10, 1_000, 10_000)
ALL_SIZES = (10, 100, 1_000, 10_000)
_EVENTS, _RECORD_EVENTS = 100_000, 100


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each number, every second organization with a plan and a key; each on a stack of its own."""
    for organizations in asked:
        with bench() as at:
            at.learn(plans_and_keys(range(0, organizations, 2)))
            yield point(organizations, at.book(_EVENTS, _RECORD_EVENTS, organizations).told())
