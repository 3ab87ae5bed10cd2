"""When the share of dead letters is too much: past the share, among enough events, within the window, for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.dead_letters.share import Count, DeadLetterShare, Excess, Limit, Origin

WHOLE = Limit(share=0.5, window_seconds=100, min_events=10, spares_largest=False)
LIMIT = Limit(share=0.5, window_seconds=100, min_events=1_000)
"""A part of the events is judged from 10 of them on."""


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def one(events: int, dead_letters: int) -> dict[Origin, Count]:
    """A batch of one organization and source."""
    return {Origin("acme", "s"): Count(events, dead_letters)}


def each(source: str | None, events: int, dead_letters: int, organizations: int = 49) -> dict[Origin, Count]:
    """A batch of so many organizations; ``{}`` in the source stands for the organization's number."""
    return {
        Origin(f"org-{n}", None if source is None else source.format(n)): Count(events, dead_letters)
        for n in range(organizations)
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_past_the_share_is_too_much_and_the_share_itself_is_not(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE, clock)
    assert share.add(one(10, 5)) is None
    assert share.add(one(1, 1)) == Excess(11, 6)


def test_a_few_bad_events_alone_are_never_too_much(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE, clock)
    assert share.add(one(9, 9)) is None
    assert share.add(one(1, 1)) == Excess(10, 10)


def test_a_share_of_1_is_never_passed(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE._replace(share=1.0), clock)
    assert share.add(one(1_000_000, 1_000_000)) is None


def test_what_lies_before_the_window_is_forgotten(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE, clock)
    assert share.add(one(1_000, 0)) is None
    clock.now += 50
    assert share.add(one(9, 9)) is None
    clock.now += 50
    assert share.add(one(1, 1)) == Excess(10, 10)
    clock.now += 99
    assert share.add(one(9, 9)) == Excess(10, 10)


def test_good_events_in_the_window_outweigh_bad_ones(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE, clock)
    share.add(one(1_000, 0))
    assert share.add(one(999, 999)) is None
    assert share.add(one(2, 2)) == Excess(2_001, 1_001)


def test_cleared_it_counts_anew(clock: Clock) -> None:
    share = DeadLetterShare(WHOLE, clock)
    assert share.add(one(20, 20)) is not None
    share.clear()
    assert share.add(one(9, 9)) is None
    assert share.add(one(1, 0)) == Excess(10, 9)


_BATCHES = st.lists(
    st.tuples(
        st.floats(0, 200, allow_nan=False),
        st.integers(1, 50).flatmap(lambda events: st.tuples(st.just(events), st.integers(0, events))),
    ),
    max_size=60,
)


@given(
    batches=_BATCHES,
    limit=st.builds(
        WHOLE._make, st.tuples(st.floats(0.01, 1), st.integers(1, 3_600), st.integers(1, 200), st.just(value=False))
    ),
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
        assert share.add(one(events, dead_letters)) == expected
        assert len(share._slices) <= 100


BAD = {Origin("bad", "its own"): Count(110_000, 110_000)}


def test_one_bad_organization_among_fifty_is_spared_and_named(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(each("runner-{}", 100, 1)) is None
    assert share.add(BAD) is None
    assert set(share.failing()) == {Origin("bad", None), Origin(None, "its own")}
    assert share.failing()[Origin("bad", None)] == Count(110_000, 110_000)


def test_that_all_come_from_one_source_makes_no_difference_to_the_others(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(each("gateway", 100, 1)) is None
    assert share.add({Origin("bad", "gateway"): Count(110_000, 110_000)}) is None
    assert Origin("bad", None) in share.failing()


@pytest.mark.parametrize("source", ["runner-{}", "gateway", None])
def test_a_fault_of_ours_refuses_everybodys_events_and_is_too_much(clock: Clock, source: str | None) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(each(source, 100, 60)) == Excess(4_900, 2_940)


def test_a_bad_source_of_many_organizations_beside_other_sources_is_spared(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    share.add(each("runner-{}", 100, 1))
    assert share.add(each("broken", 1_000, 1_000)) is None
    assert Origin(None, "broken") in share.failing()


def test_a_bad_organization_and_another_bad_source_are_both_spared(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    share.add(each("runner-{}", 100, 1))
    share.add(BAD)
    assert share.add(each("broken", 1_000, 1_000)) is None
    share.clear()
    share.add(each("runner-{}", 100, 1))
    share.add({Origin("bad", "broken"): Count(10_000, 10_000), Origin("bad", "another"): Count(90_000, 90_000)})
    assert share.add(each("broken", 4_000, 4_000)) is None


def test_one_alone_pauses_nobody_unless_nothing_of_it_could_be_read(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(BAD) is None
    share.clear()
    # Whose it is, is the word of the records' keys alone.
    assert share.add({Origin("bad", None): Count(2_000, 2_000)}) == Excess(2_000, 2_000)
    share.clear()
    assert share.add({Origin(None, None): Count(2_000, 2_000)}) == Excess(2_000, 2_000)
    share.clear()
    share.add(each("runner-{}", 100, 1))
    assert share.add({Origin("bad", None): Count(20_000, 20_000)}) is None


def test_a_handful_of_others_is_too_few_to_judge_by(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    assert share.add(BAD | each("runner-{}", 1, 1, organizations=9)) is None
    assert share.add(each("runner-{}", 1, 1, organizations=1)) is not None


def test_where_nobody_is_spared_the_whole_is_judged(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT._replace(spares_largest=False), clock)
    assert share.add(BAD) == Excess(110_000, 110_000)


def test_made_up_sources_hide_no_organization_and_take_no_memory(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    share.add(each("runner-{}", 100, 1))
    for round_ in range(50):
        clock.now += 0.1
        assert share.add({Origin("bad", f"{round_}-{n}"): Count(1, 1) for n in range(1_000)}) is None
    assert set(share.failing()) == {Origin("bad", None)}
    assert sum(len(each.groups) for each in share._slices) < 10_000


def test_an_organization_that_failed_is_forgotten_with_the_window(clock: Clock) -> None:
    share = DeadLetterShare(LIMIT, clock)
    share.add(BAD)
    assert share.failing()
    clock.now += 101
    assert share.failing() == {}
