"""Which covered ranges become one: those that meet, up to a size and a time; never a note of a loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.metering.upkeep.covered_ranges import MERGED_EVENTS_MAX, MERGED_FOR, Range, groups

AT = datetime(2026, 11, 1, tzinfo=UTC)


def one(start: int, end: int, events: int = 1, at: datetime = AT) -> Range:
    return Range(start, end, events, at, at, settled=True)


def found(*ranges: Range) -> list[tuple[int, int]]:
    return [(group[0].from_offset, group[-1].to_offset) for group in groups(ranges)]


def test_what_meets_end_to_end_goes_together():
    assert found(one(3, 4), one(4, 9), one(9, 10)) == [(3, 10)]
    assert found() == []


def test_a_hole_and_an_overlap_keep_apart():
    assert found(one(0, 2), one(3, 4), one(4, 5)) == [(0, 2), (3, 5)]
    assert found(one(0, 2), one(1, 4)) == [(0, 2), (1, 4)]


def test_a_range_without_events_stays_alone():
    assert found(one(0, 2), one(2, 4, events=0), one(4, 5), one(5, 6)) == [(0, 2), (2, 4), (4, 6)]


def test_no_more_events_than_are_counted_again_in_a_moment():
    half = MERGED_EVENTS_MAX // 2
    assert found(one(0, 1, half), one(1, 2, half), one(2, 3)) == [(0, 2), (2, 3)]
    assert found(one(0, 1, 10 * half), one(1, 2)) == [(0, 1), (1, 2)]


def test_nor_what_was_booked_over_a_long_time():
    later = AT + MERGED_FOR
    assert found(one(0, 1), one(1, 2, at=later), one(2, 3, at=later + timedelta(seconds=1))) == [(0, 2), (2, 3)]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, MERGED_EVENTS_MAX)), max_size=30))
def test_nothing_is_left_out_and_nothing_changes_places(sizes):
    ranges, start = [], 0
    for width, events in sizes:
        ranges.append(one(start, start + width, events))
        start += width
    grouped = list(groups(ranges))
    assert [each for group in grouped for each in group] == ranges
    assert all(len(group) == 1 or sum(each.events for each in group) <= MERGED_EVENTS_MAX for group in grouped)
