"""What must hold for a key to begin to apply, be it new or switched on again (docs/contract.md, section 8)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session

from services.domain.directory import PlanHistory
from services.domain.scope import Interval, Scope, ScopeType
from services.key_registry.database import credentials as repository
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal


class Place(NamedTuple):
    """Where a key applies."""

    org_id: str
    scope: Scope
    provider: str


def check_addition(registry: Registry, session: Session, place: Place, active: Interval, now: datetime) -> None:
    """Refuse a key that would apply in ``active``. The log must be taken, so that this stays true until the commit."""
    if place.provider not in card_for(registry.cards.cards(session), now).own_key_providers:
        raise Refusal(Code.PROVIDER_NOT_SUPPORTED, "This provider does not take own keys.", field="provider")
    plan = PlanHistory(place.org_id, repository.plans_of(session, place.org_id)).plan_at(now)
    if not plan.allows(place.scope.type):
        raise Refusal(Code.PLAN_NOT_ENTITLED, f"The plan {plan.value} has no {place.scope.type.value} keys.")
    organization = Scope(ScopeType.ORGANIZATION, place.org_id)
    known = repository.credentials_in(session, place.org_id, {place.scope, organization}, place.provider)
    in_slot = [credential for credential in known if credential.scope == place.scope]
    if any(credential.active_at(now) for credential in in_slot):
        raise Refusal(Code.CREDENTIAL_EXISTS, "There is an active key for this scope and provider; rotate it instead.")
    if plan.allows(ScopeType.ORGANIZATION) and any(c.active_at(now) for c in known if c.scope == organization):
        raise Refusal(Code.ORGANIZATION_KEY_ENFORCED, "The organization's key for this provider is enforced.")
    if any(span.overlaps(active) for credential in in_slot for span in credential.active):
        raise Refusal(
            Code.CREDENTIAL_OVERLAP,
            "Another key was active for this scope and provider after that time.",
            field="effective_from",
        )
