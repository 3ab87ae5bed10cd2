"""The price of an event in lines, one for each priced unit: for files that show what an entry consists of.

The lines come from the functions that price events; summed up and rounded once, they are what ``rate`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, assert_never

from services.domain.credits import Ratio
from services.domain.model_prices import PER_MILLION, Bill, ModelPrice, UnpricedError
from services.domain.rate_card import RateCard
from services.domain.rating import (
    Amounts,
    bill_of,
    exact_mc,
    node_call_mc,
    tokens_bill,
    tool_call_mc,
    workflow_run_mc,
)
from services.domain.resolution import KeySource
from services.domain.usage import EventType, UsageEvent

CALLS, RUNS, TOKENS = "calls", "runs", "tokens"
"""What is counted where no unit of the card is: node and tool calls, runs; tokens that nobody tells apart."""


class PriceLine(NamedTuple):
    """So many of one unit, and what all of them list at and cost: in mc, exact, before any rounding."""

    unit: str
    quantity: int
    per: int
    """For how many of the unit a price is told."""
    list_mc: Ratio
    charged_mc: Ratio


class Price(NamedTuple):
    """What an event costs, line by line; the bill where it was priced by one."""

    lines: tuple[PriceLine, ...]
    bill: Bill | None = None


class Share(NamedTuple):
    """What of an entry's amounts falls to one line, in mc."""

    charged_mc: int
    saved_mc: int

    @property
    def list_mc(self) -> int:
        """What it lists at: what it costs and what it saves."""
        return self.charged_mc + self.saved_mc


def price_by_line(event: UsageEvent, card: RateCard, listed_as: str | None, key_source: KeySource) -> Price:
    """The price of an event by a card, for whose key was used; ``listed_as``: the name of its model on the card.

    Without lines where nothing was used. Raises UnpricedError where the card has no price for it.
    """
    match event.type:
        case EventType.NODE_CALL:
            each = node_call_mc(card, _model_price(event, card, listed_as), key_source)
            return Price((_counted(CALLS, event.calls, each),))
        case EventType.TOKEN_USAGE:
            return _billed(tokens_bill(event, card, _model_price(event, card, listed_as)), card, key_source)
        case EventType.TOKEN_USAGE_V2:
            return _billed(bill_of(event, card, _model_price(event, card, listed_as)), card, key_source)
        case EventType.TOOL_CALL:
            mc = tool_call_mc(event, card)
            return Price((_counted(CALLS, event.calls, Amounts(mc, mc)),))
        case EventType.WORKFLOW_RUN:
            mc = workflow_run_mc(event, card)
            return Price((_counted(RUNS, 1, Amounts(mc, mc)),))
        case _:
            assert_never(event.type)


def as_one_line(event: UsageEvent, amounts: Amounts) -> Price:
    """An entry that no card explains, or in which nothing was used, as what it says itself."""
    match event.type:
        case EventType.NODE_CALL | EventType.TOOL_CALL:
            unit, per = CALLS, 1
        case EventType.TOKEN_USAGE | EventType.TOKEN_USAGE_V2:
            unit, per = TOKENS, PER_MILLION
        case EventType.WORKFLOW_RUN:
            unit, per = RUNS, 1
        case _:
            assert_never(event.type)
    return Price((PriceLine(unit, event.quantity, per, Ratio(amounts.list_mc, 1), Ratio(amounts.charged_mc, 1)),))


def shares(lines: Sequence[PriceLine], amounts: Amounts) -> list[Share]:
    """The amounts of an entry shared out to its lines, of which there is at least one, to the last mc.

    What is charged and what is saved are each rounded down, and what that leaves over goes to the largest line: so no
    line costs less than nothing or more than it lists at, and the sums are the entry's.
    """
    parts = [Share(_floor(line.charged_mc), _floor(_difference(line.list_mc, line.charged_mc))) for line in lines]
    largest = max(range(len(lines)), key=lambda index: parts[index].list_mc)
    charged = amounts.charged_mc - sum(part.charged_mc for part in parts)
    saved = amounts.saved_mc - sum(part.saved_mc for part in parts)
    parts[largest] = Share(parts[largest].charged_mc + charged, parts[largest].saved_mc + saved)
    return parts


def _model_price(event: UsageEvent, card: RateCard, listed_as: str | None) -> ModelPrice:
    price = card.models.get((event.provider or "", listed_as or event.model or ""))
    if price is None:
        raise UnpricedError(f"rate card {card.card} has no price for {event.provider}/{listed_as or event.model}")
    return price


def _counted(unit: str, quantity: int, each: Amounts) -> PriceLine:
    return PriceLine(unit, quantity, 1, Ratio(each.list_mc * quantity, 1), Ratio(each.charged_mc * quantity, 1))


def _billed(bill: Bill, card: RateCard, key_source: KeySource) -> Price:
    lines = (
        PriceLine(
            line.unit, line.quantity, card.units.by_name[line.unit].per, *exact_mc(bill.cost_of(line), card, key_source)
        )
        for line in bill.lines
    )
    return Price(tuple(lines), bill)


def _floor(exact: Ratio) -> int:
    return exact.numerator // exact.denominator


def _difference(one: Ratio, other: Ratio) -> Ratio:
    numerator = one.numerator * other.denominator - other.numerator * one.denominator
    return Ratio(numerator, one.denominator * other.denominator)
