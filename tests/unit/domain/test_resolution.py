"""docs/contract.md, section 4, rule by rule and claim by claim."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.directory import PlanHistory
from services.domain.resolution import LEASE_LIFE, Flag, KeySource, Reason, Use, resolve
from services.domain.scope import Plan, PlanPeriod, ScopeType
from services.domain.usage import Claim
from tests.factories import (
    NOON,
    ORG,
    PROVIDERS,
    START,
    TEAM,
    USER,
    card,
    card_body,
    credential,
    directory,
    interval,
    plan,
)

MICROSECOND = timedelta(microseconds=1)
THE_ORGS = credential("org-key", ScopeType.ORGANIZATION)
THE_TEAMS = credential("team-key", ScopeType.TEAM)
MINE = credential("my-key", ScopeType.PERSONAL)
ALL_KEYS = (THE_ORGS, THE_TEAMS, MINE)
PLATFORM, BYOK = KeySource.PLATFORM, KeySource.BYOK


def use(team=TEAM, *, provider="openai", at=NOON, org=ORG, user=USER):
    return Use(org, team, user, provider, at)


def answer(used, *changes, claim=None, cards=None):
    known = directory(*changes, cards=cards)
    found = resolve(used, claim, known, known.card_at(START))
    key = found.credential
    assert (found.key_source is BYOK) == (key is not None)
    return found.reason, None if key is None else key.credential_id, found.flags


# --- rules 1 to 6 -----------------------------------------------------------------------------------------------------

RULES = [
    pytest.param("mistral", "enterprise", ALL_KEYS, TEAM, ("provider_not_supported", None), id="1 provider"),
    pytest.param("mistral", "free", (), TEAM, ("provider_not_supported", None), id="1 comes before 2"),
    pytest.param("openai", "free", ALL_KEYS, TEAM, ("plan_not_entitled", None), id="2 the free plan"),
    pytest.param("openai", None, ALL_KEYS, TEAM, ("plan_not_entitled", None), id="2 no plan known is free"),
    pytest.param("openai", "enterprise", ALL_KEYS, TEAM, ("organization_key", "org-key"), id="3 organization first"),
    pytest.param("openai", "enterprise", ALL_KEYS, None, ("organization_key", "org-key"), id="3 in personal space"),
    pytest.param("openai", "pro", ALL_KEYS, TEAM, ("team_key", "team-key"), id="3 only on enterprise; 4 before 5"),
    pytest.param("openai", "enterprise", (THE_TEAMS, MINE), TEAM, ("team_key", "team-key"), id="4 before 5"),
    pytest.param("openai", "pro", (THE_ORGS, THE_TEAMS, MINE), None, ("personal_key", "my-key"), id="4 needs a team"),
    pytest.param("openai", "pro", (MINE,), TEAM, ("personal_key", "my-key"), id="5 personal in every team"),
    pytest.param("openai", "pro", (MINE,), None, ("personal_key", "my-key"), id="5 in personal space"),
    pytest.param("openai", "pro", (THE_ORGS,), TEAM, ("no_credential", None), id="6 organization key on pro"),
    pytest.param("openai", "pro", (THE_TEAMS,), None, ("no_credential", None), id="6 team key in personal space"),
    pytest.param("openai", "enterprise", (), TEAM, ("no_credential", None), id="6 nothing there"),
    pytest.param("anthropic", "enterprise", ALL_KEYS, TEAM, ("no_credential", None), id="6 keys of other providers"),
]


@pytest.mark.parametrize(("provider", "plan_name", "keys", "team", "expected"), RULES)
def test_the_rules_decide_in_their_order(provider, plan_name, keys, team, expected):
    plans = () if plan_name is None else (plan(plan_name),)
    assert answer(use(team, provider=provider), *plans, *keys) == (*expected, ())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_six_providers_of_the_article_take_own_keys(provider):
    mine = credential("my-key", provider=provider)
    assert answer(use(provider=provider), plan("pro"), mine)[0] is Reason.PERSONAL_KEY


@pytest.mark.parametrize(
    ("key", "team", "user"),
    [
        (credential("k", ScopeType.ORGANIZATION, org_id="org-2"), TEAM, USER),
        (credential("k", ScopeType.TEAM, org_id="org-2"), TEAM, USER),
        (credential("k", ScopeType.PERSONAL, org_id="org-2"), TEAM, USER),
        (credential("k", ScopeType.TEAM, "team-2"), TEAM, USER),
        (credential("k", ScopeType.PERSONAL, "user-2"), TEAM, USER),
        (credential("k", ScopeType.PERSONAL, TEAM), TEAM, USER),
        (credential("k", ScopeType.TEAM, USER), TEAM, USER),
    ],
)
def test_a_key_of_another_owner_never_applies(key, team, user):
    assert answer(use(team, user=user), plan(), key) == (Reason.NO_CREDENTIAL, None, ())
    rejected = (Reason.NO_CREDENTIAL, None, (Flag.CREDENTIAL_CLAIM_REJECTED,))
    assert answer(use(team, user=user), plan(), key, claim=Claim("k")) == rejected


@pytest.mark.parametrize("key", ALL_KEYS)
@pytest.mark.parametrize(("offset", "applies"), [(-MICROSECOND, False), (timedelta(0), True)])
def test_a_key_counts_from_the_instant_it_becomes_active(key, offset, applies):
    key = key._replace(active=(interval(NOON, None),))
    assert (answer(use(at=NOON + offset), plan(), key)[1] is not None) is applies


@pytest.mark.parametrize("key", ALL_KEYS)
@pytest.mark.parametrize(("offset", "applies"), [(-MICROSECOND, True), (timedelta(0), False)])
def test_a_key_that_was_deleted_counts_to_just_before_its_end(key, offset, applies):
    key = key._replace(active=(interval(START, NOON),))
    assert (answer(use(at=NOON + offset), plan(), key)[1] is not None) is applies


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(-MICROSECOND, "plan_not_entitled"), (timedelta(0), "organization_key"), (timedelta(hours=1), "team_key")],
)
def test_the_plan_of_that_instant_decides_and_a_downgrade_leaves_the_key_in_place(offset, reason):
    until = NOON + timedelta(hours=1)
    plans = (PlanPeriod(Plan.ENTERPRISE, interval(NOON, until)), PlanPeriod(Plan.PRO, interval(until, None)))
    assert answer(use(at=NOON + offset), PlanHistory(ORG, plans), *ALL_KEYS)[0] == reason


def test_the_order_of_team_and_personal_key_stands_on_the_card_and_the_organizations_stays_first():
    turned = card(own_key=card_body()["own_key"] | {"scope_order": ["personal", "team"]})
    assert answer(use(), plan("pro"), *ALL_KEYS, cards=(turned,))[0] is Reason.PERSONAL_KEY
    assert answer(use(), plan("pro"), THE_TEAMS, cards=(turned,))[0] is Reason.TEAM_KEY
    assert answer(use(), plan(), *ALL_KEYS, cards=(turned,))[0] is Reason.ORGANIZATION_KEY


def test_who_takes_own_keys_stands_on_the_card():
    more = card(own_key=card_body()["own_key"] | {"providers": ["mistral"]})
    mine = (credential("other-key", provider="mistral"), MINE)
    assert answer(use(provider="mistral"), plan("pro"), *mine, cards=(more,))[0] is Reason.PERSONAL_KEY
    assert answer(use(), plan("pro"), *mine, cards=(more,))[0] is Reason.PROVIDER_NOT_SUPPORTED


def test_ids_are_compared_as_they_are():
    mine = credential("my-key", owner="User-1")
    assert answer(use(), plan(), mine)[0] is Reason.NO_CREDENTIAL
    # A team and a user of one name are two owners.
    both = credential("my-key", owner="same")
    assert answer(use("same", user="other"), plan(), both)[0] is Reason.NO_CREDENTIAL


# --- the claim to have used the platform's key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "plan_name", "keys", "flags"),
    [
        ("openai", "pro", (), ()),
        ("openai", "free", ALL_KEYS, ()),
        ("mistral", "enterprise", ALL_KEYS, ()),
        ("openai", "pro", (MINE,), (Flag.PLATFORM_FALLBACK,)),
        ("openai", "pro", (THE_TEAMS,), (Flag.PLATFORM_FALLBACK,)),
        ("openai", "enterprise", (THE_ORGS,), (Flag.PLATFORM_FALLBACK,)),
        ("openai", "pro", (THE_ORGS,), ()),
    ],
)
def test_a_platform_claim_is_believed_and_flagged_where_a_key_was_there(provider, plan_name, keys, flags):
    found = answer(use(provider=provider), plan(plan_name), *keys, claim=Claim(None))
    assert found == (Reason.PLATFORM_CLAIMED, None, flags)


# --- the claim to have used a customer's key --------------------------------------------------------------------------

BYPASSED, REJECTED = (Flag.ORGANIZATION_KEY_BYPASSED,), (Flag.CREDENTIAL_CLAIM_REJECTED,)


@pytest.mark.parametrize(
    ("claimed", "plan_name", "team", "keys", "expected"),
    [
        pytest.param("my-key", "pro", TEAM, (THE_TEAMS, MINE), ("claimed_key", "my-key", ()), id="over the team's"),
        pytest.param("my-key", "pro", None, (MINE,), ("claimed_key", "my-key", ()), id="in personal space"),
        pytest.param("team-key", "pro", TEAM, (THE_TEAMS,), ("claimed_key", "team-key", ()), id="the team's"),
        pytest.param("org-key", "enterprise", None, ALL_KEYS, ("claimed_key", "org-key", ()), id="the organization's"),
        pytest.param("my-key", "enterprise", TEAM, ALL_KEYS, ("claimed_key", "my-key", BYPASSED), id="bypass"),
        pytest.param("team-key", "enterprise", TEAM, ALL_KEYS, ("claimed_key", "team-key", BYPASSED), id="team bypass"),
        pytest.param("my-key", "pro", TEAM, ALL_KEYS, ("claimed_key", "my-key", ()), id="nothing to bypass on pro"),
        pytest.param("none", "pro", TEAM, ALL_KEYS, ("team_key", "team-key", REJECTED), id="unknown credential"),
        pytest.param(
            "team-key", "pro", None, ALL_KEYS, ("personal_key", "my-key", REJECTED), id="not the event's team"
        ),
        pytest.param(
            "org-key", "pro", TEAM, ALL_KEYS, ("team_key", "team-key", REJECTED), id="organization key on pro"
        ),
        pytest.param("my-key", "free", TEAM, ALL_KEYS, ("plan_not_entitled", None, REJECTED), id="free plan"),
        pytest.param("org-key", "free", TEAM, ALL_KEYS, ("plan_not_entitled", None, REJECTED), id="free plan, org key"),
    ],
)
def test_a_byok_claim_is_believed_if_it_can_be_true(claimed, plan_name, team, keys, expected):
    assert answer(use(team), plan(plan_name), *keys, claim=Claim(claimed)) == expected


def test_a_claim_of_a_key_for_another_provider_is_rejected():
    other = credential("other", provider="anthropic")
    assert answer(use(), plan(), other, MINE, claim=Claim("other")) == (Reason.PERSONAL_KEY, "my-key", REJECTED)


def test_a_claim_for_a_provider_that_takes_no_own_keys_is_rejected():
    odd = credential("odd", provider="mistral")
    found = answer(use(provider="mistral"), plan(), odd, claim=Claim("odd"))
    assert found == (Reason.PROVIDER_NOT_SUPPORTED, None, REJECTED)


def test_a_rejected_claim_is_flagged_with_that_alone():
    found = answer(use(), plan(), THE_ORGS, MINE, claim=Claim("unknown"))
    assert found == (Reason.ORGANIZATION_KEY, "org-key", REJECTED)


@pytest.mark.parametrize(
    ("offset", "believed"),
    [
        (-MICROSECOND, True),
        (timedelta(0), True),
        (timedelta(seconds=300), True),
        (timedelta(seconds=300, microseconds=1), False),
    ],
)
def test_a_lease_outlives_its_key_by_300_seconds_to_the_microsecond(offset, believed):
    assert timedelta(seconds=300) == LEASE_LIFE
    ended = MINE._replace(active=(interval(START, NOON),))
    found = answer(use(at=NOON + offset), plan("pro"), ended, claim=Claim("my-key"))
    assert found == (("claimed_key", "my-key", ()) if believed else ("no_credential", None, REJECTED))


def test_without_a_claim_no_key_outlives_its_end():
    ended = MINE._replace(active=(interval(START, NOON),))
    assert answer(use(at=NOON), plan("pro"), ended) == (Reason.NO_CREDENTIAL, None, ())


@pytest.mark.parametrize(("offset", "believed"), [(-MICROSECOND, False), (timedelta(0), True)])
def test_no_key_can_have_been_used_before_it_was_there(offset, believed):
    coming = MINE._replace(active=(interval(NOON, None),))
    found = answer(use(at=NOON + offset), plan("pro"), coming, claim=Claim("my-key"))
    assert (found[0] is Reason.CLAIMED_KEY) is believed


def test_a_key_that_was_never_active_cannot_have_been_leased():
    never = MINE._replace(active=(interval(NOON, NOON),))
    assert answer(use(at=NOON), plan("pro"), never, claim=Claim("my-key"))[2] == REJECTED
    assert answer(use(at=NOON), plan("pro"), MINE._replace(active=()), claim=Claim("my-key"))[2] == REJECTED


def test_the_plan_of_that_instant_has_no_grace():
    plans = PlanHistory(ORG, (PlanPeriod(Plan.PRO, interval(START, NOON)),))
    assert answer(use(at=NOON), plans, MINE, claim=Claim("my-key")) == (Reason.PLAN_NOT_ENTITLED, None, REJECTED)
    assert answer(use(at=NOON - MICROSECOND), plans, MINE, claim=Claim("my-key"))[0] is Reason.CLAIMED_KEY


def test_an_organization_key_that_ended_can_be_claimed_within_its_lease_and_bypasses_nothing():
    old = THE_ORGS._replace(credential_id="old", active=(interval(START, NOON),))
    new = THE_ORGS._replace(credential_id="new", active=(interval(NOON, None),))
    found = answer(use(at=NOON + timedelta(seconds=10)), plan(), old, new, claim=Claim("old"))
    assert found == (Reason.CLAIMED_KEY, "old", ())


def test_platform_and_byok_are_told_from_the_claim():
    assert Claim(None).is_platform
    assert not Claim("my-key").is_platform
