"""From the body of a rate card to what the core prices with, and what of it is wrong, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal, get_args

from pydantic import ValidationError

from schemas.rate_card import RateCardBody, RateCardDocument, read_body, read_document
from services.domain.faults import Fault
from services.domain.rate_card import InvalidRateCard, ModelPrice, RateCard, Ratio, require_amounts_fit
from services.domain.scope import ScopeType


def read_rate_card(
    card: str, effective_from: datetime, body: Any, *, unknown: Literal["forbid", "ignore"] = "ignore"
) -> RateCard:
    """The card that is published under this name, from this time on (UTC). Raises InvalidRateCard naming every place.

    Places that we do not know count for nothing: such a card was published by another release, and is not edited.
    """
    try:
        read = read_body(body, unknown=unknown)
    except ValidationError as error:
        raise InvalidRateCard(*_faults(error, RateCardBody)) from None
    return RateCard(
        card=card,
        effective_from=effective_from,
        usd_micros_per_credit=read.usd_per_credit,
        own_key_providers=frozenset(read.own_key.providers),
        scope_order=tuple(map(ScopeType, read.own_key.scope_order)),
        own_key_node_call_mc=read.own_key.node_call_credits,
        own_key_token_factor=Ratio(*read.own_key.token_factor.as_integer_ratio()),
        tool_call_mc=read.tool_call.credits,
        tool_mc=read.tool_call.tools,
        workflow_run_mc=read.workflow_run.credits,
        charge_subflows=read.workflow_run.charge_subflows,
        models=_models(read),
    )


def _models(body: RateCardBody) -> dict[tuple[str, str], ModelPrice]:
    return {
        (provider, model): ModelPrice(
            tier=line.tier,
            tier_mc=body.tiers[line.tier],
            input_price=line.input_usd_per_mtok,
            cached_input_price=line.cached_input_usd_per_mtok,
            output_price=line.output_usd_per_mtok,
        )
        for provider, lines in body.models.items()
        for model, line in lines.items()
    }


def publishable(card: str, effective_from: datetime, body: Any) -> RateCard:
    """The card, if it may be published: it has no place that we do not know, and what it prices fits into the ledger.

    Raises InvalidRateCard naming every place; whether amounts fit is looked at once all of them can be read.
    """
    read = read_rate_card(card, effective_from, body, unknown="forbid")
    require_amounts_fit(read)
    return read


def read_new_card(document: Any) -> RateCardDocument:
    """A card in a file, as JSON says it. Raises InvalidRateCard naming every place in the file, unknown ones too."""
    try:
        return read_document(document)
    except ValidationError as error:
        raise InvalidRateCard(*_faults(error, RateCardDocument)) from None


def _faults(error: ValidationError, whole: type[RateCardBody | RateCardDocument]) -> list[Fault]:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return [Fault(".".join(map(str, problem["loc"])), _sentence(problem, whole)) for problem in problems]


def _sentence(problem: Any, whole: type[RateCardBody | RateCardDocument]) -> str:
    if problem["type"] == "extra_forbidden":
        *above, name = problem["loc"]
        near = get_close_matches(name, _names_in(whole, above), n=1)
        return "is no place of a rate card" + (f"; did you mean {near[0]}?" if near else "")
    said: str = problem["msg"]
    return _SENTENCES.get(problem["type"], said.removeprefix("Value error, "))


def _names_in(whole: Any, path: Sequence[str]) -> list[str]:
    """What there may be at ``path``, where an object has names of its own."""
    kind = whole
    for name in path:
        kind = kind.model_fields[name].annotation if hasattr(kind, "model_fields") else get_args(kind)[1]
    return [field.alias or name for name, field in kind.model_fields.items()]


_SENTENCES = {
    "missing": "is missing",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list of strings",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
}
