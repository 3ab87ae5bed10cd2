"""Against the number of partitions of the topic that one worker reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plots.figures import Point, point
from plots.whole_worker import bench, plans_and_keys

SIZES = (1, 12, 48)
ALL_SIZES = (1, 3, 6, 12, 24, 48)
_EVENTS, _RECORD_EVENTS = 100_000, 100
_ORGANIZATIONS = 480


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each number, each on a stack of its own."""
    for partitions in asked:
        with bench(partitions) as at:
            at.learn(plans_and_keys(range(0, _ORGANIZATIONS, 2)))
            yield point(partitions, at.book(_EVENTS, _RECORD_EVENTS, _ORGANIZATIONS).told())
