"""Laws of what the directory keeps prepared: after any changes it answers as the changes themselves do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.domain.directory import Credential, Directory, PlanHistory
from services.domain.rate_card import RateCard, in_force, in_order
from services.domain.scope import Interval, Plan, Scope, ScopeType, holding, span
from tests.strategies import INSTANTS, ORGS, TEAMS, USERS, disjoint_intervals, histories, instants

_PROVIDERS = ("openai", "anthropic", "mistral")
_SCOPES = [
    *(Scope(ScopeType.ORGANIZATION, org_id) for org_id in ORGS),
    *(Scope(ScopeType.TEAM, team_id) for team_id in TEAMS),
    *(Scope(ScopeType.PERSONAL, user_id) for user_id in USERS),
]


@given(histories(max_size=12), instants())
def test_plans_keys_and_cards_are_those_of_the_last_changes(log, at):
    known, last = Directory(), {}
    for seq, change in enumerate(log, start=1):
        known.apply(seq, change)
        # What is said of a subject last comes last: of cards with one date it is in force.
        subject = (type(change), change[0])
        last.pop(subject, None)
        last[subject] = change
        assert_answers(known, list(last.values()), at)


def assert_answers(known, changes, at):
    plans = {each.org_id: each.plan_at(at) for each in changes if isinstance(each, PlanHistory)}
    assert {org_id: known.plan_at(org_id, at) for org_id in ORGS} == {org: plans.get(org, Plan.FREE) for org in ORGS}
    assert known.card_at(at) == in_force(in_order(each for each in changes if isinstance(each, RateCard)), at)
    keys = [each for each in changes if isinstance(each, Credential) and each.active_at(at)]
    for org_id in ORGS:
        for scope in _SCOPES:
            for provider in _PROVIDERS:
                held = [each for each in keys if each[1:4] == (org_id, scope, provider)]
                assert known.active_in(org_id, *scope, provider, at) == (held[0] if held else None)


@given(disjoint_intervals(), st.sampled_from(INSTANTS))
def test_a_span_holds_what_its_interval_covers(intervals, at):
    spans = [span(each, each) for each in (*intervals, Interval(at, at))]
    assert holding(spans, at) == next((each for each in intervals if each.covers(at)), None)
