"""When the share of dead letters is too much: past the share, among enough events, within the window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.dead_letter_share import DeadLetterShare, Excess, Limit

LIMIT = Limit(share=0.5, window_seconds=100, min_events=10)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_past_the_share_is_too_much_and_the_share_itself_is_not(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(10, 5) is None
    assert share.add(1, 1) == Excess(11, 6)


def test_a_few_bad_events_alone_are_never_too_much(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(9, 9) is None
    assert share.add(1, 1) == Excess(10, 10)


def test_a_share_of_1_is_never_passed(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT._replace(share=1.0), clock)
    assert share.add(1_000_000, 1_000_000) is None


def test_what_lies_before_the_window_is_forgotten(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(1_000, 0) is None
    clock.now += 50
    assert share.add(9, 9) is None
    clock.now += 50
    assert share.add(1, 1) == Excess(10, 10)
    clock.now += 99
    assert share.add(9, 9) == Excess(10, 10)


def test_good_events_in_the_window_outweigh_bad_ones(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    share.add(1_000, 0)
    assert share.add(999, 999) is None
    assert share.add(2, 2) == Excess(2_001, 1_001)


def test_cleared_it_counts_anew(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(20, 20) is not None
    share.clear()
    assert share.add(9, 9) is None
    assert share.add(1, 0) == Excess(10, 9)


_BATCHES = st.lists(
    st.tuples(
        st.floats(0, 200, allow_nan=False),
        st.integers(1, 50).flatmap(lambda events: st.tuples(st.just(events), st.integers(0, events))),
    ),
    max_size=60,
)


@given(
    batches=_BATCHES,
    limit=st.builds(Limit, st.floats(0.01, 1), st.integers(1, 3_600), st.integers(1, 200)),
)
def test_it_says_what_adding_up_every_batch_of_the_window_says(
    batches: list[tuple[float, tuple[int, int]]], limit: Limit
) -> None:
    clock = Clock()
    share = DeadLetterShare(limit, clock)
    seen: list[tuple[int, int, int]] = []
    for wait, (events, dead_letters) in batches:
        clock.now += wait
        hundredth = int(clock.now * 100 // limit.window_seconds)
        seen.append((hundredth, events, dead_letters))
        within = [(e, d) for number, e, d in seen if number > hundredth - 100]
        total, dead = (sum(column) for column in zip(*within, strict=True))
        expected = Excess(total, dead) if total >= limit.min_events and dead > limit.share * total else None
        assert share.add(events, dead_letters) == expected
        assert len(share._slices) <= 100
