"""Levels of keys, plans, half-open intervals, and the history that a change of plan leaves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.scope import Interval, Plan, PlanPeriod, ScopeType, change_plan
from tests.factories import interval, utc

MICROSECOND = timedelta(microseconds=1)
GRACE = timedelta(seconds=300)
ONE, TWO, THREE = utc("2026-05-01"), utc("2026-05-02"), utc("2026-05-03")


@pytest.mark.parametrize(
    ("plan", "levels"),
    [
        (Plan.FREE, set()),
        (Plan.PRO, {ScopeType.TEAM, ScopeType.PERSONAL}),
        (Plan.ENTERPRISE, {ScopeType.ORGANIZATION, ScopeType.TEAM, ScopeType.PERSONAL}),
    ],
)
def test_a_plan_allows_the_levels_of_the_help_article(plan, levels):
    assert {level for level in ScopeType if plan.allows(level)} == levels


@pytest.mark.parametrize(
    ("at", "covered"),
    [(ONE - MICROSECOND, False), (ONE, True), (TWO - MICROSECOND, True), (TWO, False)],
)
def test_an_interval_holds_its_start_and_not_its_end(at, covered):
    assert Interval(ONE, TWO).covers(at) is covered


@pytest.mark.parametrize(
    ("at", "covered"),
    [
        (ONE - MICROSECOND, False),
        (TWO, True),
        (TWO + GRACE, True),
        (TWO + GRACE + MICROSECOND, False),
    ],
)
def test_grace_reaches_exactly_as_far_as_it_says_and_only_after_the_end(at, covered):
    assert Interval(ONE, TWO).covers(at, grace=GRACE) is covered


def test_an_open_interval_never_ends():
    assert Interval(ONE, None).covers(utc("2100-12-31T23:59:59.999999"))


@pytest.mark.parametrize("end", [ONE, ONE - MICROSECOND])
def test_an_empty_interval_covers_nothing_even_with_grace(end):
    empty = Interval(ONE, end)
    assert empty.is_empty
    assert not empty.covers(ONE)
    assert not empty.covers(ONE, grace=GRACE)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((ONE, TWO), (TWO, THREE), False),
        ((ONE, TWO + MICROSECOND), (TWO, THREE), True),
        ((ONE, THREE), (TWO, TWO), False),
        ((ONE, None), (TWO, None), True),
        ((ONE, TWO), (TWO, None), False),
        ((ONE, None), (TWO, THREE), True),
        ((ONE, THREE), (ONE, THREE), True),
    ],
)
def test_intervals_overlap_where_some_instant_lies_in_both(one, other, overlap):
    assert Interval(*one).overlaps(Interval(*other)) is overlap
    assert Interval(*other).overlaps(Interval(*one)) is overlap


def _periods(*periods):
    return tuple(PlanPeriod(Plan(plan), interval(*bounds)) for plan, *bounds in periods)


@pytest.mark.parametrize(
    ("before", "plan", "start", "after"),
    [
        pytest.param((), "pro", ONE, (("pro", ONE, None),), id="the first plan"),
        pytest.param((("pro", ONE, None),), "free", TWO, (("pro", ONE, TWO), ("free", TWO, None)), id="from now on"),
        pytest.param((("pro", ONE, None),), "pro", TWO, (("pro", ONE, None),), id="the same again changes nothing"),
        pytest.param(
            (("pro", TWO, None),), "enterprise", ONE, (("enterprise", ONE, None),), id="replaces what is after"
        ),
        pytest.param((("pro", ONE, None),), "free", ONE, (("free", ONE, None),), id="from the same instant"),
        pytest.param(
            (("pro", ONE, TWO), ("free", TWO, THREE), ("enterprise", THREE, None)),
            "pro",
            TWO,
            (("pro", ONE, None),),
            id="backdated, and continued",
        ),
        pytest.param(
            (("pro", ONE, TWO),), "pro", THREE, (("pro", ONE, TWO), ("pro", THREE, None)), id="a gap stays a gap"
        ),
    ],
)
def test_a_plan_holds_from_its_start_in_place_of_whatever_stood_after_it(before, plan, start, after):
    assert change_plan(_periods(*before), Plan(plan), start) == _periods(*after)
