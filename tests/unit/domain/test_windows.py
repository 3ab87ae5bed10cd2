"""The times at which a change of the registry can have moved a price."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.directory import ModelAliases, PlanHistory
from services.domain.scope import Interval, Plan, PlanPeriod
from services.domain.windows import Touched, differences, touched
from tests.factories import ORG, START, card, credential, interval, plan, utc

# A lease's last microsecond still counts, so a half-open window ends one after it.
LEASE_END = timedelta(seconds=300, microseconds=1)
D1, D2, D3, D4 = (utc(f"2026-05-0{day}") for day in (1, 2, 3, 4))


def _sets(*pairs):
    return [Interval(start, end) for start, end in pairs]


@pytest.mark.parametrize(
    ("one", "other", "windows"),
    [
        ([], [], []),
        ([(D1, D2)], [(D1, D2)], []),
        ([], [(D1, D2)], [(D1, D2)]),
        ([(D1, None)], [], [(D1, None)]),
        ([(D1, None)], [(D1, D3)], [(D3, None)]),
        ([(D1, D3)], [(D2, D4)], [(D1, D2), (D3, D4)]),
        ([(D1, D4)], [(D2, D3)], [(D1, D2), (D3, D4)]),
        ([(D1, D2), (D2, D3)], [(D1, D3)], []),
        ([(D1, D3), (D2, D4)], [(D1, D4)], []),
        ([(D1, D3), (D2, D4)], [], [(D1, D4)]),
        ([(D1, D1), (D3, D2)], [], []),
        ([(D1, D2)], [(D2, D3)], [(D1, D3)]),
    ],
)
def test_differences_are_the_times_that_lie_in_exactly_one_of_two_sets(one, other, windows):
    assert differences(_sets(*one), _sets(*other)) == _sets(*windows)
    assert differences(_sets(*other), _sets(*one)) == _sets(*windows)


def test_a_new_key_touches_its_scope_and_provider_from_its_start():
    key = credential("team-key", "team", active=(interval(D1, None),))
    assert touched(None, key) == [Touched(Interval(D1, None), ORG, key.scope, "openai")]


def test_a_key_that_is_unchanged_touches_nothing():
    assert touched(credential(), credential()) == []


def test_a_deleted_key_touches_what_came_after_its_end_with_and_without_its_lease():
    before, after = credential(active=(interval(D1, None),)), credential(active=(interval(D1, D2),))
    windows = [where.window for where in touched(before, after)]
    assert windows == _sets((D2, None), (D2 + LEASE_END, None))


def test_a_key_that_ends_later_after_all_touches_its_lease_as_well():
    before, after = credential(active=(interval(D1, D2),)), credential(active=(interval(D1, D3),))
    assert {where.window for where in touched(before, after)} == set(_sets((D2, D3), (D2 + LEASE_END, D3 + LEASE_END)))


def test_a_key_that_was_never_active_touches_nothing():
    assert touched(None, credential(active=(interval(D1, D1),))) == []


@pytest.mark.parametrize(
    ("before", "after", "windows"),
    [
        (None, [("free", D1, None)], []),
        (None, [("pro", D1, None)], [(D1, None)]),
        ([("pro", D1, None)], [("pro", D1, None)], []),
        ([("pro", D1, None)], [("pro", D1, D2), ("free", D2, None)], [(D2, None)]),
        ([("pro", D1, None)], [("pro", D1, D2), ("enterprise", D2, None)], [(D2, None)]),
        ([("pro", D1, None)], [("pro", D3, None)], [(D1, D3)]),
        ([("pro", D1, D3), ("enterprise", D3, None)], [("enterprise", D2, None)], [(D1, D3), (D2, D3)]),
    ],
)
def test_a_plan_touches_its_organization_where_it_differs(before, after, windows):
    def history(periods):
        return PlanHistory(ORG, tuple(PlanPeriod(Plan(name), Interval(*bounds)) for name, *bounds in periods))

    found = touched(None if before is None else history(before), history(after))
    assert sorted((where.window for where in found), key=str) == sorted(_sets(*windows), key=str)
    assert all(where._replace(window=None) == (None, ORG, None, None, False) for where in found)


def test_a_new_card_touches_everybody_until_the_next_card():
    one, two, three = card("one", START), card("two", D2), card("three", D4)
    assert touched(None, three, (one, two, three)) == [Touched(Interval(D4, None))]
    assert touched(None, two, (one, two, three)) == [Touched(Interval(D2, D4))]
    assert touched(None, two) == [Touched(Interval(D2, None))]


def test_a_card_that_is_published_again_touches_nothing():
    assert touched(card(), card(), (card(),)) == []


def test_what_another_kind_said_under_the_key_does_not_count():
    assert touched(plan(), credential()) == touched(None, credential())
    assert touched(credential(), plan()) == touched(None, plan())


def test_another_name_of_a_model_touches_only_what_stands_without_a_price():
    before, after = ModelAliases("openai", {"a": "small"}), ModelAliases("openai", {"a": "small", "b": "large"})
    (where,) = touched(before, after)
    assert (where.provider, where.only_unrated, where.window.end) == ("openai", True, None)
    assert where.window.covers(START)
    assert touched(after, after) == []
