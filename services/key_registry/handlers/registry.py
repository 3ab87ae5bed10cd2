"""What every use case works with, and what several of them ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from services.domain.permissions import REGISTRY_BACKDATE, Caller
from services.domain.rate_card import RateCard, in_force
from services.key_registry.audit.trail import AuditTrail
from services.key_registry.database.credentials import CardShelf
from services.key_registry.database.sessions import Sessions
from services.key_registry.handlers.key_questions import Answer, Asked, Lease
from services.key_registry.keyring.envelopes import Keyring
from services.key_registry.providers.checks import ProviderChecks
from services.key_registry.rules import policy
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal
from services.runtime.together import Together

_TOGETHER_MAX = 100


@dataclass(frozen=True)
class Registry:
    """What the use cases work with."""

    sessions: Sessions
    keyring: Keyring
    cards: CardShelf = field(default_factory=CardShelf)
    audit: AuditTrail = field(default_factory=AuditTrail)
    resolutions: Together[Asked, Answer] = field(default_factory=partial(Together, "resolutions", _TOGETHER_MAX))
    leases: Together[Asked, Lease] = field(default_factory=partial(Together, "leases", _TOGETHER_MAX))
    checks: ProviderChecks = field(default_factory=lambda: ProviderChecks({}, 1))
    rotation_undo: timedelta = timedelta(days=1)
    """How long the key before a rotation can be brought back."""


def card_for(cards: tuple[RateCard, ...], at: datetime) -> RateCard:
    """The card in force at ``at``; before the first one, the first: keys may be brought in ahead of it."""
    if not cards:
        raise LookupError("no rate card is published")
    return in_force(cards, at) or cards[0]


def check_backdating(caller: Caller, effective_from: datetime | None) -> None:
    """Refuse a time of the caller's own to whoever may not backdate."""
    if effective_from is not None:
        policy.require_scope(caller, REGISTRY_BACKDATE)


def start_of(effective_from: datetime | None, now: datetime) -> datetime:
    """When a change takes effect: now, or backdated. Raises Refusal for the future."""
    if effective_from is not None and effective_from > now:
        raise Refusal(Code.INVALID_REQUEST, "The time must not be in the future.", field="effective_from")
    return effective_from or now
