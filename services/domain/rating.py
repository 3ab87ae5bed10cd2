"""What one event costs: list and charged, each computed exactly and rounded once (docs/contract.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from services.domain.credits import AMOUNT_MC_MAX, Ratio, format_credits, round_half_even
from services.domain.directory import Directory
from services.domain.faults import did_you_mean
from services.domain.model_prices import (
    CACHE_READ,
    INPUT,
    OUTPUT,
    Bill,
    Billed,
    Conditions,
    Counts,
    ModelPrice,
    Units,
    UnpricedConditionError,
    UnpricedError,
    UnpricedUnitError,
    bill,
    cost,
    require_parts_fit,
)
from services.domain.rate_card import RateCard
from services.domain.resolution import NOT_MODEL_USAGE, Flag, KeySource, Resolution, Use, resolve
from services.domain.usage import EventType, UsageEvent
from services.domain.values import Value

# An Enum looks its members up in Python, each time; this one is named for every event.
_BYOK = KeySource.BYOK


class NoRateCardError(UnpricedError):
    """No card is in force at the event's time."""


class UnpricedModelError(UnpricedError):
    """The card in force does not list the event's model, nor is it another name of one; ``near`` are listed ones."""

    def __init__(self, said: str, near: Sequence[str]) -> None:
        """``said`` is a sentence without a guess at what was meant."""
        super().__init__(said + did_you_mean(near))
        self.near = tuple(near)


class AmountTooLargeError(UnpricedError):
    """The event would cost more than the ledger can hold: the card's prices cannot be meant."""


class Amounts(Value, frozen=True):
    """What an event would cost with the platform's key, and what it does cost; integers in mc."""

    list_mc: int
    charged_mc: int

    @property
    def saved_mc(self) -> int:
        """List minus charged."""
        return self.list_mc - self.charged_mc


class Rating(Value, frozen=True):
    """The price of one event and everything it follows from."""

    resolution: Resolution
    amounts: Amounts
    card: RateCard
    tier: str | None
    priced_model: str | None = None
    """Under which name the card lists the event's model, where that is not the name that was reported."""


def rate(event: UsageEvent, directory: Directory) -> Rating:
    """The price of ``event`` with what ``directory`` knows, as of the event's own time.

    Raises NoRateCardError, ImpossibleUsageError, UnpricedModelError, UnpricedUnitError, UnpricedConditionError or
    AmountTooLargeError; never guesses.
    """
    card = directory.card_at(event.occurred_at)
    if card is None:
        raise NoRateCardError(f"no rate card is in force at {event.occurred_at.isoformat()}")
    rating = _RATED[event.type](event, directory, card)
    if rating.amounts.list_mc > AMOUNT_MC_MAX:
        raise AmountTooLargeError(
            f"by rate card {card.card} it comes to {format_credits(rating.amounts.list_mc)} credits,"
            f" and an entry holds at most {format_credits(AMOUNT_MC_MAX)}"
        )
    return rating


def _tool_call(event: UsageEvent, _directory: Directory, card: RateCard) -> Rating:
    return _whoever_pays(tool_call_mc(event, card) * event.calls, card)


def _workflow_run(event: UsageEvent, _directory: Directory, card: RateCard) -> Rating:
    return _whoever_pays(workflow_run_mc(event, card), card)


def tool_call_mc(event: UsageEvent, card: RateCard) -> int:
    """What each call of a tool costs: a failed one nothing."""
    return card.tool_price(event.tool or "") if event.succeeded else 0


def workflow_run_mc(event: UsageEvent, card: RateCard) -> int:
    """What a run costs: on some cards a subflow's nothing."""
    free = event.parent_run_id is not None and not card.charge_subflows
    return 0 if free else card.workflow_run_mc


def _whoever_pays(mc: int, card: RateCard) -> Rating:
    """The rating of what costs the same whoever's key is used."""
    return Rating(NOT_MODEL_USAGE, Amounts(mc, mc), card, None)


T = TypeVar("T")
_OfRequest = Callable[[Counts, Conditions, datetime, ModelPrice, Units], T]
_PricedBy = Callable[[UsageEvent, RateCard, ModelPrice, KeySource], Amounts]


def _model_usage(event: UsageEvent, directory: Directory, card: RateCard, amounts: _PricedBy) -> Rating:
    provider, model = event.provider or "", event.model or ""
    listed = directory.listed_as(card, provider, model)
    if listed is None:
        raise UnpricedModelError(
            f"rate card {card.card} has no price for {provider}/{model}", directory.names_near(card, provider, model)
        )
    price = card.models[provider, listed]
    use = Use(event.org_id, event.team_id, event.user_id, provider, event.occurred_at)
    resolution = resolve(use, event.claim, directory, card)
    priced = amounts(event, card, price, resolution.key_source)
    if event.is_partial:
        resolution = resolution._replace(flags=(*resolution.flags, Flag.USAGE_PARTIAL))
    return Rating(resolution, priced, card, price.tier, None if listed == model else listed)


def price_of(event: UsageEvent, rating: Rating) -> ModelPrice:
    """The line of the card that a model's use was priced by."""
    return rating.card.models[event.provider or "", rating.priced_model or event.model or ""]


def _node_call(event: UsageEvent, directory: Directory, card: RateCard) -> Rating:
    return _model_usage(event, directory, card, _node_calls)


def _token_usage(event: UsageEvent, directory: Directory, card: RateCard) -> Rating:
    return _model_usage(event, directory, card, _tokens)


def _token_usage_v2(event: UsageEvent, directory: Directory, card: RateCard) -> Rating:
    require_parts_fit(event.usage, card.units)
    return _model_usage(event, directory, card, _units)


_RATED: Mapping[EventType, Callable[[UsageEvent, Directory, RateCard], Rating]] = {
    EventType.NODE_CALL: _node_call,
    EventType.TOKEN_USAGE: _token_usage,
    EventType.TOKEN_USAGE_V2: _token_usage_v2,
    EventType.TOOL_CALL: _tool_call,
    EventType.WORKFLOW_RUN: _workflow_run,
}


def _node_calls(event: UsageEvent, card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    each = node_call_mc(card, price, key_source)
    return Amounts(each.list_mc * event.calls, each.charged_mc * event.calls)


def node_call_mc(card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    """What each node call lists at and costs."""
    return Amounts(price.tier_mc, card.own_key_node_call_mc if key_source is _BYOK else price.tier_mc)


def _tokens(event: UsageEvent, card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    picos = 0
    for unit, count in _counted(event):
        if count:
            picos += count * _plain_price(unit, card, price)
    return cost_to_mc(Ratio(picos, 1), card, key_source)


def tokens_bill(event: UsageEvent, card: RateCard, price: ModelPrice) -> Bill:
    """The bill of an event that may sum up the tokens of many requests: so nothing counts but the plain prices.

    Raises UnpricedUnitError.
    """
    counted = ((unit, count, _plain_price(unit, card, price)) for unit, count in _counted(event) if count)
    lines = tuple(Billed(unit, count, one, is_tokens=True) for unit, count, one in counted)
    return Bill(lines, uplifts=(), variant=None, band=None, window=None)


def _counted(event: UsageEvent) -> Counts:
    fresh = event.input_tokens - event.cached_input_tokens
    return (INPUT, fresh), (CACHE_READ, event.cached_input_tokens), (OUTPUT, event.output_tokens)


def _plain_price(unit: str, card: RateCard, price: ModelPrice) -> int:
    one = price.prices.get(unit)
    if one is None:
        raise UnpricedUnitError(unit, f"rate card {card.card} has no price for {unit} of this model")
    return one


def _units(event: UsageEvent, card: RateCard, price: ModelPrice, key_source: KeySource) -> Amounts:
    return cost_to_mc(_of_request(cost, event, card, price), card, key_source)


def bill_of(event: UsageEvent, card: RateCard, price: ModelPrice) -> Bill:
    """The bill of the one request that the event reports. Raises as ``bill`` does, and names the card."""
    return _of_request(bill, event, card, price)


def _of_request(asked: _OfRequest[T], event: UsageEvent, card: RateCard, price: ModelPrice) -> T:
    try:
        return asked(event.usage, event.conditions, event.occurred_at, price, card.units)
    except UnpricedUnitError as error:
        raise UnpricedUnitError(error.unit, _of_card(card, event, error)) from None
    except UnpricedConditionError as error:
        raise UnpricedConditionError(error.condition, _of_card(card, event, error)) from None


def _of_card(card: RateCard, event: UsageEvent, error: UnpricedError) -> str:
    return f"rate card {card.card} {error} for {event.provider}/{event.model}"


def cost_to_mc(picos: Ratio, card: RateCard, key_source: KeySource) -> Amounts:
    """USD cost ÷ USD per credit, and × the factor of own keys; each rounded once."""
    listed, charged = exact_mc(picos, card, key_source)
    list_mc = round_half_even(listed.numerator, listed.denominator)
    if charged is listed:
        return Amounts(list_mc, list_mc)
    return Amounts(list_mc, round_half_even(charged.numerator, charged.denominator))


def exact_mc(picos: Ratio, card: RateCard, key_source: KeySource) -> tuple[Ratio, Ratio]:
    """List and charged of a cost in pico-USD, exact in mc.

    10^-12 USD over micro-USD per credit is 10^-6 credit, which is mc.
    """
    listed = Ratio(picos.numerator, picos.denominator * card.usd_micros_per_credit)
    if key_source is not _BYOK:
        return listed, listed
    factor = card.own_key_token_factor
    return listed, Ratio(listed.numerator * factor.numerator, listed.denominator * factor.denominator)
