"""Rate cards: dated, immutable data: what an act costs, and who takes own keys (docs/contract.md, sections 4 and 5).

New models, tools, tiers, providers and factors are new cards, never new code. How a card is written, and that no float
is ever near a price, is said in ``schemas/rate_card.py``; ``services/messages/rate_cards.py`` leads from there to here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

from services.domain.credits import AMOUNT_MC_MAX, MC_PER_CREDIT, Ratio, round_half_even
from services.domain.faults import Fault
from services.domain.model_prices import ModelPrice, Units, most_expensive
from services.domain.scope import ScopeType
from services.domain.usage import CALLS_MAX, TOKENS_MAX

_FAULTS_TOLD = 5


class InvalidRateCard(ValueError):
    """A card cannot be used: each of its ``faults`` names a place in the body; the message tells the first few."""

    def __init__(self, *faults: Fault) -> None:
        more = len(faults) - _FAULTS_TOLD
        told = [*map(str, faults[:_FAULTS_TOLD]), *([f"and {more:,} more"] if more > 0 else [])]
        super().__init__("; ".join(told))
        self.faults = faults


class RateCard(NamedTuple):
    """A price book in force from ``effective_from`` (UTC) until the next one."""

    card: str
    effective_from: datetime
    usd_micros_per_credit: int
    own_key_providers: frozenset[str]
    scope_order: tuple[ScopeType, ...]
    """The order in which a team's and a user's key are looked for, below the organization's."""
    own_key_node_call_mc: int
    own_key_token_factor: Ratio
    tool_call_mc: int
    tool_mc: Mapping[str, int]
    workflow_run_mc: int
    charge_subflows: bool
    units: Units
    models: Mapping[tuple[str, str], ModelPrice]

    def tool_price(self, tool: str) -> int:
        """What one succeeded call of ``tool`` costs, in mc: its own line, else the card's default."""
        return self.tool_mc.get(tool, self.tool_call_mc)


class Dated(Protocol):
    """A rate card, read or not, as far as it matters when it is in force."""

    @property
    def effective_from(self) -> datetime:
        """From when on it is in force."""


D = TypeVar("D", bound=Dated)


def in_order(published: Iterable[D]) -> tuple[D, ...]:
    """Cards in the order in which they come into force; of those with one date, the last published comes last.

    ``published`` are given in the order in which they were published.
    """
    return tuple(sorted(published, key=attrgetter("effective_from")))


def in_force(cards: Sequence[D], at: datetime) -> D | None:
    """The card in force at ``at``, of cards ``in_order``; None before the first."""
    return next((card for card in reversed(cards) if card.effective_from <= at), None)


def end_of_force(card: Dated, cards: Iterable[Dated]) -> datetime | None:
    """When the next date begins after that of ``card``; None where it is the last."""
    later = (other.effective_from for other in cards if other.effective_from > card.effective_from)
    return min(later, default=None)


def require_amounts_fit(card: RateCard) -> None:
    """Refuse a card under which the largest event that may be sent costs more than the ledger can hold.

    Only list prices are looked at, for an own key never raises a charge. Raises InvalidRateCard naming every place.
    """
    faults = [_does_not_fit(place, mc, of) for place, mc, of in _largest_amounts(card) if mc > AMOUNT_MC_MAX]
    if faults:
        raise InvalidRateCard(*faults)


def _largest_amounts(card: RateCard) -> Iterator[tuple[str, int, str]]:
    """Places of the card's body, what the largest event costs by each, in mc, and which event that is."""
    yield "tool_call.credits", card.tool_call_mc * CALLS_MAX, _MOST_CALLS
    for tool, mc in card.tool_mc.items():
        yield f"tool_call.tools.{tool}", mc * CALLS_MAX, _MOST_CALLS
    for (provider, model), line in card.models.items():
        yield f"models.{provider}.{model}.tier", line.tier_mc * CALLS_MAX, _MOST_CALLS
        cost = most_expensive(line, card.units)
        mc = round_half_even(cost.numerator * TOKENS_MAX, cost.denominator * card.usd_micros_per_credit)
        yield f"models.{provider}.{model}", mc, _MOST_TOKENS


_MOST_CALLS = f"{CALLS_MAX:,} calls"
_MOST_TOKENS = f"{TOKENS_MAX:,} tokens in and as many out, with all that may come on top,"


def _does_not_fit(place: str, mc: int, of: str) -> Fault:
    most = AMOUNT_MC_MAX // MC_PER_CREDIT
    return Fault(
        place,
        f"{of}, which one event may report, cost {mc // MC_PER_CREDIT:,} credits;"
        f" an entry of the ledger holds at most {most:,}",
    )
