"""As-of answers from a fold over the registry log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.domain.directory import Directory, ModelAliases, PlanHistory, directory_of
from services.domain.scope import Plan, PlanPeriod, Scope, ScopeType
from tests.factories import ORG, START, USER, card, credential, directory, interval, plan, utc

MICROSECOND = timedelta(microseconds=1)
NOW = utc("2026-06-01")
MINE = Scope(ScopeType.PERSONAL, USER)


def test_an_empty_directory_knows_nothing_and_everybody_is_on_the_free_plan():
    empty = Directory()
    assert empty.seq == 0
    assert empty.plan_at(ORG, NOW) is Plan.FREE
    assert empty.plans_of(ORG) == ()
    assert empty.credential("key-1") is None
    assert empty.active_in(ORG, *MINE, "openai", NOW) is None
    assert empty.card_at(NOW) is None
    assert empty.cards == ()


def test_changes_are_taken_in_once_and_never_go_back():
    known = Directory()
    assert known.apply(5, plan("pro"))
    assert not known.apply(5, plan("enterprise"))
    assert not known.apply(4, plan("enterprise"))
    assert known.seq == 5
    assert known.plan_at(ORG, NOW) is Plan.PRO
    # A compacted log leaves numbers out.
    assert known.apply(9, plan("enterprise"))
    assert known.seq == 9
    assert known.plan_at(ORG, NOW) is Plan.ENTERPRISE


def test_a_copy_knows_the_same_and_goes_on_by_itself():
    known = directory(plan("pro"), credential(), card("one"))
    copied = known.copy()
    assert (copied.seq, copied.cards) == (known.seq, known.cards)
    assert copied.credential(credential().credential_id) is known.credential(credential().credential_id)
    assert copied.apply(9, plan("enterprise"))
    assert (copied.plan_at(ORG, NOW), known.plan_at(ORG, NOW)) == (Plan.ENTERPRISE, Plan.PRO)
    assert (copied.seq, known.seq) == (9, 4)


def test_a_change_that_was_missing_counts_when_it_comes_after_later_ones():
    known, mine, other = Directory(), credential(), credential(credential_id="another")
    cards = (card("one"), card("two"))
    for seq, change in ((2, cards[1]), (9, mine), (1, cards[0]), (5, plan("pro")), (4, other)):
        assert known.apply(seq, change)
    assert known.seq == 9
    assert known.plan_at(ORG, NOW) is Plan.PRO
    assert (known.credential(mine.credential_id), known.credential("another")) == (mine, other)
    assert known.cards == cards
    # What is newer is not taken back.
    assert not known.apply(3, plan("free"))
    assert not known.apply(8, mine._replace(active=()))
    assert not known.apply(1, card("two", START - MICROSECOND))
    assert known.plan_at(ORG, NOW) is Plan.PRO
    assert known.credential(mine.credential_id) == mine
    assert known.cards == cards


def test_a_plan_holds_from_its_start_to_just_before_its_end():
    end = utc("2026-07-01")
    known = directory(PlanHistory(ORG, (PlanPeriod(Plan.PRO, interval(START, end)),)))
    assert [known.plan_at(ORG, at) for at in (START - MICROSECOND, START, end - MICROSECOND, end)] == [
        Plan.FREE,
        Plan.PRO,
        Plan.PRO,
        Plan.FREE,
    ]
    assert known.plan_at("another", START) is Plan.FREE


def test_a_credential_is_found_in_its_own_slot_alone():
    mine = credential()
    known = directory(mine)
    assert known.active_in(ORG, *MINE, "openai", NOW) == mine
    assert known.active_in("another", *MINE, "openai", NOW) is None
    assert known.active_in(ORG, *Scope(ScopeType.TEAM, USER), "openai", NOW) is None
    assert known.active_in(ORG, *Scope(ScopeType.PERSONAL, "another"), "openai", NOW) is None
    assert known.active_in(ORG, *MINE, "anthropic", NOW) is None
    assert known.credential("key-1") == mine


def test_a_slot_remembers_whose_turn_it_was():
    handover = utc("2026-05-10")
    first = credential("first", active=(interval(START, handover),))
    second = credential("second", active=(interval(handover, None),))
    known = directory(credential("first"), first, second)
    assert known.active_in(ORG, *MINE, "openai", handover - MICROSECOND) == first
    assert known.active_in(ORG, *MINE, "openai", handover) == second


def test_a_credential_that_was_ended_and_taken_up_again_was_away_in_between():
    again = credential(active=(interval(START, "2026-05-10"), interval("2026-05-20", None)))
    assert [again.active_at(utc(day)) for day in ("2026-05-09", "2026-05-10", "2026-05-20")] == [True, False, True]


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (START - MICROSECOND, None),
        (START, "one"),
        (utc("2026-10-31T23:59:59.999999"), "one"),
        (utc("2026-11-01"), "two"),
        (utc("2026-12-31"), "two"),
    ],
)
def test_the_card_in_force_is_the_last_that_took_effect(at, name):
    one, two = card("one", START), card("two", utc("2026-11-01"))
    known = directory(cards=(two, one))
    assert known.cards == (one, two)
    assert (found := known.card_at(at)) == (None if name is None else {"one": one, "two": two}[name])
    assert found is None or found.card == name


def test_of_two_cards_for_one_date_the_one_published_last_is_in_force():
    known = directory(cards=(card("one"), card("two")))
    assert known.card_at(START).card == "two"


def test_a_directory_is_made_of_pairs_or_of_a_mapping_in_the_order_of_seq():
    changes: dict[int, Any] = {2: plan("enterprise"), 1: plan("pro"), 3: credential()}
    for known in (directory_of(changes), directory_of(changes.items())):
        assert known.seq == 3
        assert known.plan_at(ORG, NOW) is Plan.ENTERPRISE
        assert known.plans_of(ORG) == plan("enterprise").plans


# --- names of models --------------------------------------------------------------------------------------------------


def test_a_model_is_listed_under_its_own_name_else_under_the_one_it_is_another_name_of():
    known = directory(ModelAliases("openai", {"openai/small": "small", "gone": "retired"}))
    assert known.listed_as(card(), "openai", "small") == "small"
    assert known.listed_as(card(), "openai", "openai/small") == "small"
    assert known.listed_as(card(), "anthropic", "openai/small") is None
    assert known.listed_as(card(), "openai", "gone") is None
    assert known.listed_as(card(), "openai", "unheard-of") is None


def test_a_model_that_the_card_lists_under_the_very_name_wins_over_an_alias():
    known = directory(ModelAliases("openai", {"small": "large"}))
    assert known.listed_as(card(), "openai", "small") == "small"


def test_the_newest_names_of_a_provider_count_and_nothing_else_changes():
    known = directory(ModelAliases("openai", {"a": "small"}))
    assert not known.apply(2, ModelAliases("openai", {"a": "large"}))
    assert known.apply(3, ModelAliases("openai", {"a": "small", "b": "large"}))
    assert known.aliases_of("openai") == {"a": "small", "b": "large"}
    assert known.aliases_of("anthropic") == {}
    assert known.seq == 3


def test_names_near_are_those_that_have_a_price():
    known = directory(ModelAliases("openai", {"openai/middle": "middle", "midle-2": "retired"}))
    assert known.names_near(card(), "openai", "midle") == ("middle",)
    assert known.names_near(card(), "openai", "openai/midle") == ("middle",)
    assert known.names_near(card(), "openai", "xyz") == ()
