"""From the registry log's messages to what the core makes of them. Every reader of the log shares this."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_never

import msgspec
from pydantic import ValidationError

from schemas.registry_changes import (
    REGISTRY_CHANGE,
    ActiveInterval,
    CredentialChange,
    ModelAliasesChange,
    PlanChange,
    RateCardChange,
    RegistryChange,
)
from services.domain.directory import Change, Credential, ModelAliases, PlanHistory
from services.domain.rate_card import InvalidRateCard, RateCard
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.messages.rate_cards import read_rate_card


class UnreadableChangeError(Exception):
    """A message of the registry log cannot be read. It can move prices, so nobody may go on without it."""


class _Number(msgspec.Struct):
    seq: int


_NUMBER = msgspec.json.Decoder(_Number)


def read_change(payload: bytes) -> RegistryChange:
    """The message in ``payload``. Raises UnreadableChangeError that names the field."""
    try:
        return REGISTRY_CHANGE.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableChangeError(f"registry change: {place}: {first['msg']}") from None


def number_of(payload: bytes) -> int:
    """The ``seq`` of the message in ``payload``, which is read no further. Raises UnreadableChangeError as it does."""
    try:
        return _NUMBER.decode(payload).seq
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read_change(payload).seq


def to_change(message: RegistryChange) -> Change:
    """The message as the core's directory takes it in. Raises UnreadableChangeError for a card it cannot use."""
    match message:
        case CredentialChange():
            return _credential(message)
        case PlanChange():
            periods = (PlanPeriod(Plan(plan.plan), _interval(plan)) for plan in message.plans)
            return PlanHistory(message.org_id, tuple(periods))
        case RateCardChange():
            return _rate_card(message)
        case ModelAliasesChange():
            return ModelAliases(message.provider, message.aliases)
        case _:
            assert_never(message)


def _rate_card(message: RateCardChange) -> RateCard:
    try:
        return read_rate_card(message.card, _utc(message.effective_from), message.body)
    except InvalidRateCard as error:
        raise UnreadableChangeError(f"rate card {message.card}: {error}") from None


def _credential(message: CredentialChange) -> Credential:
    return Credential(
        credential_id=message.credential_id,
        org_id=message.org_id,
        scope=Scope(ScopeType(message.scope.type), message.scope.id),
        provider=message.provider,
        active=tuple(_interval(active) for active in message.active),
    )


def _interval(active: ActiveInterval) -> Interval:
    return Interval(_utc(active.from_), None if active.to is None else _utc(active.to))


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
