"""Quotes: which key would apply, at what price, and why, with the very functions that price events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.dead_letters import Reason
from schemas.fields import Calls, Id, Time, Tokens
from schemas.usage_events import UNITS_MAX
from services.domain.credits import MC_PER_CREDIT
from services.domain.entries import attribution
from services.domain.model_prices import UnpricedError
from services.domain.rating import Amounts, NoRateCardError, Rating, UnpricedModelError, rate
from services.domain.usage import EventType, UsageEvent, tokens_in
from services.ledger import explanation
from services.ledger.key_sight import KeySight
from services.ledger.receipts import candidate_list, plan_of
from services.ledger.registry import Known
from services.messages.unpriced import why_unpriced
from services.runtime.refusals import Refusal


class QuoteRequest(BaseModel):
    """Who would use which model, and when; with counts, what that would cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    org_id: Annotated[Id | None, Field(description="Needed where the token is good for every organization.")] = None
    user_id: Id
    team_id: Id | None = None
    provider: Id
    model: Id
    time: Time | None = Field(None, description="As of when; absent: now.")
    calls: Calls = 1
    input_tokens: Tokens = 0
    cached_input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    usage: Annotated[dict[Id, Tokens], Field(max_length=UNITS_MAX)] = Field(
        {}, description="How many of each unit of one request, in place of the three kinds of tokens."
    )
    conditions: Annotated[dict[Id, Id], Field(max_length=UNITS_MAX)] = Field(
        {}, description="What the provider would serve, such as {'processing': 'batch'}."
    )

    @model_validator(mode="after")
    def _cached_is_part_of_input(self) -> QuoteRequest:
        if self.cached_input_tokens > self.input_tokens:
            raise ValueError("cached_input_tokens must not exceed input_tokens")
        return self

    @model_validator(mode="after")
    def _counts_in_one_way(self) -> QuoteRequest:
        if self.usage and (self.input_tokens or self.output_tokens):
            raise ValueError("usage counts the tokens, so input_tokens and output_tokens must not")
        if self.conditions and not self.usage:
            raise ValueError("conditions are about one request: give its usage")
        return self


def build_quote(request: QuoteRequest, org_id: str, at: datetime, known: Known, keys: KeySight) -> dict[str, Any]:
    """The quote, and of keys what may be told.

    Raises 422 with the reason of a dead letter where there is no price: none is ever guessed.
    """
    node_call = _event(request, org_id, at, EventType.NODE_CALL)._replace(calls=request.calls)
    tokens = _tokens(request, org_id, at)
    per_node_call, per_tokens = _rate(node_call, known), _rate(tokens, known)
    found = attribution(per_node_call)
    return {
        "org_id": org_id,
        "user_id": request.user_id,
        "team_id": request.team_id,
        "provider": request.provider,
        "model": request.model,
        "time": at,
        "registry_seq": known.directory.seq,
        "key": {
            "key_source": found.key_source,
            "byok_scope": found.byok_scope,
            "credential_id": keys.id_of_applied(per_node_call.resolution.credential),
            "reason": found.reason,
        },
        "plan": plan_of(known.directory, node_call),
        "candidates": candidate_list(node_call, per_node_call, known, keys),
        "rate_card": explanation.card_line(tokens, per_tokens) | explanation.card_line(node_call, per_node_call),
        "node_call": {
            "calls": request.calls,
            **_amounts(per_node_call.amounts),
            "arithmetic": explanation.arithmetic(node_call, per_node_call),
        },
        "token_usage": {
            "input_tokens": tokens.input_tokens,
            "cached_input_tokens": tokens.cached_input_tokens,
            "output_tokens": tokens.output_tokens,
            **({"usage": request.usage, "conditions": request.conditions} if request.usage else {}),
            **_amounts(per_tokens.amounts),
            "arithmetic": explanation.arithmetic(tokens, per_tokens),
        },
        "mc_per_credit": MC_PER_CREDIT,
    }


def _amounts(amounts: Amounts) -> dict[str, int]:
    return {"list_mc": amounts.list_mc, "charged_mc": amounts.charged_mc, "saved_mc": amounts.saved_mc}


def _tokens(request: QuoteRequest, org_id: str, at: datetime) -> UsageEvent:
    if not request.usage:
        return _event(request, org_id, at, EventType.TOKEN_USAGE)._replace(
            input_tokens=request.input_tokens,
            cached_input_tokens=request.cached_input_tokens,
            output_tokens=request.output_tokens,
        )
    usage = tuple(sorted(request.usage.items()))
    return _event(request, org_id, at, EventType.TOKEN_USAGE_V2)._replace(
        usage=usage, conditions=tuple(sorted(request.conditions.items())), **tokens_in(request.usage)
    )


def _event(request: QuoteRequest, org_id: str, at: datetime, event_type: EventType) -> UsageEvent:
    return UsageEvent(
        org_id=org_id,
        source="quote",
        id="quote",
        type=event_type,
        occurred_at=at,
        user_id=request.user_id,
        team_id=request.team_id,
        provider=request.provider,
        model=request.model,
    )


def _rate(event: UsageEvent, known: Known) -> Rating:
    try:
        return rate(event, known.directory)
    except NoRateCardError:
        raise Refusal(Reason.NO_RATE_CARD, "No rate card is in force at that time.") from None
    except UnpricedModelError as error:
        meant = f" Did you mean {' or '.join(error.near)}?" if error.near else ""
        detail = f"The rate card in force has no price for that model.{meant}"
        raise Refusal(Reason.UNPRICED_MODEL, detail, field="model") from None
    except UnpricedError as error:
        rejection = why_unpriced(error)
        raise Refusal(rejection.reason, rejection.detail) from None
