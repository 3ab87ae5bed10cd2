"""How a credential stands, against the resolution that decides which key is used."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from services.domain.directory import Credential, PlanHistory, directory_of
from services.domain.resolution import KeySource, Reason, Use, resolve_unclaimed
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.rules.standing import Standing, Status, Surroundings

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ALWAYS = Interval(datetime(2026, 1, 1, tzinfo=UTC), None)
CARD = packaged_cards()[-1].parse()


@pytest.mark.parametrize(
    ("level", "provider", "plan", "organization_key"),
    product(ScopeType, ("openai", "mistral"), Plan, (False, True)),
)
def test_a_key_is_active_exactly_when_resolution_uses_it(
    level: ScopeType, provider: str, plan: Plan, organization_key: bool
) -> None:
    owners = {ScopeType.ORGANIZATION: "acme", ScopeType.TEAM: "t", ScopeType.PERSONAL: "uma"}
    key = Credential("key", "acme", Scope(level, owners[level]), provider, (ALWAYS,))
    other = Credential("org", "acme", Scope(ScopeType.ORGANIZATION, "acme"), provider, (ALWAYS,))
    keys = [key, other] if organization_key and level is not ScopeType.ORGANIZATION else [key]
    history = PlanHistory("acme", (PlanPeriod(plan, ALWAYS),))
    directory = directory_of(enumerate([history, *keys], start=1))
    answer = resolve_unclaimed(Use("acme", "t", "uma", provider, NOW), directory, CARD)
    own = {c.provider for c in keys if c.scope.type is ScopeType.ORGANIZATION}
    around = Surroundings(plan, frozenset(CARD.own_key_providers), frozenset(own))
    standing = around.standing(level, provider, deleted=False, enabled=True)
    assert (standing.status is Status.ACTIVE) == (answer.credential == key)
    if answer.key_source is KeySource.BYOK:
        assert standing.shadowed_by == (None if answer.credential == key else answer.reason)


def test_what_is_deleted_or_switched_off_stands_behind_nothing() -> None:
    around = Surroundings(Plan.FREE, frozenset(), frozenset())
    assert around.standing(ScopeType.TEAM, "x", deleted=True, enabled=False) == Standing(Status.DELETED)
    assert around.standing(ScopeType.TEAM, "x", deleted=False, enabled=False) == Standing(Status.DISABLED)
    assert around.standing(ScopeType.TEAM, "x", deleted=False, enabled=False, lost=True) == Standing(Status.LOST)
    assert around.standing(ScopeType.TEAM, "x", deleted=True, enabled=False, lost=True) == Standing(Status.DELETED)
    shadowed = Standing(Status.SHADOWED, Reason.PROVIDER_NOT_SUPPORTED)
    assert around.standing(ScopeType.TEAM, "x", deleted=False, enabled=True) == shadowed
