"""Which key applies to one use of a model, and why: docs/contract.md, section 4, rule by rule. Pure and total."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.directory import Credential, Directory
from services.domain.rate_card import RateCard
from services.domain.scope import Plan, Scope, ScopeType
from services.domain.usage import Claim
from services.domain.values import Value

# An Enum looks its members up in Python, each time; these are named for every event.
_ORGANIZATION, _TEAM, _PERSONAL = ScopeType.ORGANIZATION, ScopeType.TEAM, ScopeType.PERSONAL
_FREE = Plan.FREE
LEASE_LIFE = timedelta(seconds=300)
"""How long a runner may go on with a key that it leased before the key ended."""


class KeySource(StrEnum):
    """Whose key a model was called with; ``none`` where no model is called."""

    BYOK = "byok"
    PLATFORM = "platform"
    NONE = "none"


class Reason(StrEnum):
    """Why that key: the rule that decided."""

    PROVIDER_NOT_SUPPORTED = "provider_not_supported"
    PLAN_NOT_ENTITLED = "plan_not_entitled"
    ORGANIZATION_KEY = "organization_key"
    TEAM_KEY = "team_key"
    PERSONAL_KEY = "personal_key"
    NO_CREDENTIAL = "no_credential"
    PLATFORM_CLAIMED = "platform_claimed"
    CLAIMED_KEY = "claimed_key"
    NOT_MODEL_USAGE = "not_model_usage"


class Flag(StrEnum):
    """What an operator may want to look into."""

    ORGANIZATION_KEY_BYPASSED = "organization_key_bypassed"
    PLATFORM_FALLBACK = "platform_fallback"
    CREDENTIAL_CLAIM_REJECTED = "credential_claim_rejected"
    USAGE_PARTIAL = "usage_partial"


class Use(Value, frozen=True):
    """One use of a model: by whom, with which provider, at which instant (UTC)."""

    org_id: str
    team_id: str | None
    user_id: str
    provider: str
    at: datetime

    def owner(self, level: ScopeType) -> str | None:
        """The id of who owns a key of this level that the use lies within; None for the team in the personal space."""
        if level is _TEAM:
            return self.team_id
        return self.user_id if level is _PERSONAL else self.org_id

    def scope(self, level: ScopeType) -> Scope | None:
        """The same with its level."""
        owner = self.owner(level)
        return None if owner is None else Scope(level, owner)


class Resolution(Value, frozen=True):
    """The answer: whose key, by which rule, which credential (None unless ``byok``), and what to look into."""

    key_source: KeySource
    reason: Reason
    credential: Credential | None = None
    flags: tuple[Flag, ...] = ()


_BYOK = KeySource.BYOK
NOT_MODEL_USAGE = Resolution(KeySource.NONE, Reason.NOT_MODEL_USAGE)

_KEY_OF_LEVEL = {
    ScopeType.ORGANIZATION: Reason.ORGANIZATION_KEY,
    ScopeType.TEAM: Reason.TEAM_KEY,
    ScopeType.PERSONAL: Reason.PERSONAL_KEY,
}


def _platform(reason: Reason, *flags: Flag) -> Resolution:
    return Resolution(KeySource.PLATFORM, reason, flags=flags)


_PROVIDER_NOT_SUPPORTED = _platform(Reason.PROVIDER_NOT_SUPPORTED)
_PLAN_NOT_ENTITLED = _platform(Reason.PLAN_NOT_ENTITLED)
_NO_CREDENTIAL = _platform(Reason.NO_CREDENTIAL)


def resolve(use: Use, claim: Claim | None, directory: Directory, card: RateCard) -> Resolution:
    """Which key applies. What the event claims comes first, if it can be true; else rules 1 to 6 decide."""
    ruled = resolve_unclaimed(use, directory, card)
    if claim is None:
        return ruled
    if claim.credential_id is None:
        fallback = (Flag.PLATFORM_FALLBACK,) if ruled.credential is not None else ()
        return _platform(Reason.PLATFORM_CLAIMED, *fallback)
    credential = directory.credential(claim.credential_id)
    if credential is None or not can_be_claimed(credential, use, directory, card):
        return ruled._replace(flags=(Flag.CREDENTIAL_CLAIM_REJECTED,))
    bypassed = ruled.reason is Reason.ORGANIZATION_KEY and credential.scope.type is not ScopeType.ORGANIZATION
    flags = (Flag.ORGANIZATION_KEY_BYPASSED,) if bypassed else ()
    return Resolution(_BYOK, Reason.CLAIMED_KEY, credential, flags)


def resolve_unclaimed(use: Use, directory: Directory, card: RateCard) -> Resolution:
    """Rules 1 to 6, which know nothing of claims."""
    if use.provider not in card.own_key_providers:
        return _PROVIDER_NOT_SUPPORTED
    plan = directory.plan_at(use.org_id, use.at)
    if plan is _FREE:
        return _PLAN_NOT_ENTITLED
    for level in (_ORGANIZATION, *card.scope_order):
        owner = use.owner(level)
        if owner is None or not plan.allows(level):
            continue
        credential = directory.active_in(use.org_id, level, owner, use.provider, use.at)
        if credential is not None:
            return Resolution(_BYOK, _KEY_OF_LEVEL[level], credential)
    return _NO_CREDENTIAL


def can_be_claimed(credential: Credential, use: Use, directory: Directory, card: RateCard) -> bool:
    """Whether a runner may truly have used this key: active then or within a lease's life before, and in scope."""
    return (
        credential.org_id == use.org_id
        and credential.provider == use.provider
        and use.provider in card.own_key_providers
        and credential.scope == use.scope(credential.scope.type)
        and directory.plan_at(use.org_id, use.at).allows(credential.scope.type)
        and any(interval.covers(use.at, grace=LEASE_LIFE) for interval in credential.active)
    )
