"""From what the registry knows to the messages of ``byok.registry-changes``. Of a key, only the hint gets here."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.registry_changes import (
    ActiveInterval,
    CredentialChange,
    ModelAliasesChange,
    PlanChange,
    RateCardChange,
    ScopeRef,
)
from services.domain.directory import Credential, ModelAliases, PlanHistory
from services.key_registry.database.plan_periods import plan_interval
from services.key_registry.rate_cards import CardDocument

_HINT_CHARACTERS = 4
_HINTED_KEY_CHARACTERS_MIN = 16


def hint(secret: str) -> str:
    """What may be shown of a key: an ellipsis and its last four characters; nothing of a key under 16 characters."""
    return "…" + (secret[-_HINT_CHARACTERS:] if len(secret) >= _HINTED_KEY_CHARACTERS_MIN else "")


def credential_change(seq: int, changed_at: datetime, credential: Credential, key_hint: str) -> CredentialChange:
    """The whole history of one credential."""
    return CredentialChange(
        seq=seq,
        changed_at=_utc(changed_at),
        credential_id=credential.credential_id,
        org_id=credential.org_id,
        scope=ScopeRef(type=credential.scope.type.value, id=credential.scope.id),
        provider=credential.provider,
        hint=key_hint,
        active=tuple(ActiveInterval(from_=_utc(span.start), to=_utc_or_none(span.end)) for span in credential.active),
    )


def plan_change(seq: int, changed_at: datetime, history: PlanHistory) -> PlanChange:
    """The whole plan history of one organization."""
    return PlanChange(
        seq=seq,
        changed_at=_utc(changed_at),
        org_id=history.org_id,
        plans=tuple(map(plan_interval, history.plans)),
    )


def rate_card_change(seq: int, changed_at: datetime, document: CardDocument) -> RateCardChange:
    """One rate card."""
    return RateCardChange(
        seq=seq,
        changed_at=_utc(changed_at),
        card=document.card,
        effective_from=_utc(document.effective_from),
        body=document.body,
    )


def model_aliases_change(seq: int, changed_at: datetime, aliases: ModelAliases) -> ModelAliasesChange:
    """All other names of one provider's models."""
    return ModelAliasesChange(
        seq=seq, changed_at=_utc(changed_at), provider=aliases.provider, aliases=dict(aliases.aliases)
    )


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _utc_or_none(at: datetime | None) -> datetime | None:
    return None if at is None else _utc(at)
