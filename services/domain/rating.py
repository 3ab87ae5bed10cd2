"""What one event costs: list and charged, each computed exactly and rounded once (docs/contract.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, assert_never

from services.domain.credits import AMOUNT_MC_MAX, format_credits, round_half_even
from services.domain.directory import Directory
from services.domain.rate_card import ModelPrice, RateCard, Ratio
from services.domain.resolution import NOT_MODEL_USAGE, KeySource, Resolution, Use, resolve
from services.domain.usage import EventType, UsageEvent

_FULL = Ratio(1, 1)


class UnpricedError(Exception):
    """No price can be given, and none is guessed; the message says what is missing."""


class NoRateCardError(UnpricedError):
    """No card is in force at the event's time."""


class UnpricedModelError(UnpricedError):
    """The card in force does not list the event's model."""


class AmountTooLargeError(UnpricedError):
    """The event would cost more than the ledger can hold: the card's prices cannot be meant."""


class Amounts(NamedTuple):
    """What an event would cost with the platform's key, and what it does cost; integers in mc."""

    list_mc: int
    charged_mc: int

    @property
    def saved_mc(self) -> int:
        """List minus charged."""
        return self.list_mc - self.charged_mc


class Rating(NamedTuple):
    """The price of one event and everything it follows from."""

    resolution: Resolution
    amounts: Amounts
    card: RateCard
    tier: str | None


def rate(event: UsageEvent, directory: Directory) -> Rating:
    """The price of ``event`` with what ``directory`` knows, as of the event's own time.

    Raises NoRateCardError, UnpricedModelError or AmountTooLargeError; never guesses.
    """
    card = directory.card_at(event.occurred_at)
    if card is None:
        raise NoRateCardError(f"no rate card is in force at {event.occurred_at.isoformat()}")
    rating = _rate(event, directory, card)
    if rating.amounts.list_mc > AMOUNT_MC_MAX:
        raise AmountTooLargeError(
            f"by rate card {card.card} it comes to {format_credits(rating.amounts.list_mc)} credits,"
            f" and an entry holds at most {format_credits(AMOUNT_MC_MAX)}"
        )
    return rating


def _rate(event: UsageEvent, directory: Directory, card: RateCard) -> Rating:
    match event.type:
        case EventType.NODE_CALL:
            return _model_usage(event, directory, card, _node_calls)
        case EventType.TOKEN_USAGE:
            return _model_usage(event, directory, card, _tokens)
        case EventType.TOOL_CALL:
            return _whoever_pays(card.tool_price(event.tool or "") * event.calls if event.succeeded else 0, card)
        case EventType.WORKFLOW_RUN:
            free = event.parent_run_id is not None and not card.charge_subflows
            return _whoever_pays(0 if free else card.workflow_run_mc, card)
        case _:
            assert_never(event.type)


def _whoever_pays(mc: int, card: RateCard) -> Rating:
    """The rating of what costs the same whoever's key is used."""
    return Rating(NOT_MODEL_USAGE, Amounts(mc, mc), card, None)


_PricedBy = Callable[[UsageEvent, RateCard, ModelPrice, KeySource], Amounts]


def _model_usage(event: UsageEvent, directory: Directory, card: RateCard, amounts: _PricedBy) -> Rating:
    provider, model = event.provider or "", event.model or ""
    price = card.models.get((provider, model))
    if price is None:
        raise UnpricedModelError(f"rate card {card.card} has no price for {provider}/{model}")
    use = Use(event.org_id, event.team_id, event.user_id, provider, event.occurred_at)
    resolution = resolve(use, event.claim, directory, card)
    return Rating(resolution, amounts(event, card, price, resolution.key_source), card, price.tier)


def _node_calls(event: UsageEvent, card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    per_call = card.own_key_node_call_mc if key_source is KeySource.BYOK else price.tier_mc
    return Amounts(price.tier_mc * event.calls, per_call * event.calls)


def _tokens(event: UsageEvent, card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    list_mc = _token_mc(event, card, price, _FULL)
    if key_source is not KeySource.BYOK:
        return Amounts(list_mc, list_mc)
    return Amounts(list_mc, _token_mc(event, card, price, card.own_key_token_factor))


def _token_mc(event: UsageEvent, card: RateCard, price: ModelPrice, factor: Ratio) -> int:
    """USD cost of the tokens ÷ USD per credit × factor.

    Tokens × micro-USD per million tokens is 10^-12 USD; over micro-USD per credit that is 10^-6 credit, which is mc.
    """
    fresh = event.input_tokens - event.cached_input_tokens
    cost = (
        fresh * price.input_price
        + event.cached_input_tokens * price.cached_input_price
        + event.output_tokens * price.output_price
    )
    return round_half_even(cost * factor.numerator, card.usd_micros_per_credit * factor.denominator)
