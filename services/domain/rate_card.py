"""Rate cards: dated, immutable data: what an act costs, and who takes own keys (docs/contract.md, sections 4 and 5).

New models, tools, tiers, providers and factors are new cards, never new code. Amounts in a card's body are JSON
integers or decimal strings; here they become integers, so that no float is ever near a price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

from services.domain.credits import AMOUNT_MC_MAX, MC_PER_CREDIT, round_half_even
from services.domain.scope import ScopeType
from services.domain.usage import CALLS_MAX, TOKENS_MAX

_MICRO = 1_000_000
_MAX_PRICE = Decimal(1_000_000)
# No exponents, and few enough digits for Decimal to keep all of them when a number is scaled.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,15})?")


class InvalidRateCard(ValueError):
    """The body of a card cannot be used; the message names the place in it."""


class Ratio(NamedTuple):
    """An exact factor: one half is ``Ratio(1, 2)``."""

    numerator: int
    denominator: int


class ModelPrice(NamedTuple):
    """One line of the card. Prices are micro-USD per million tokens (``3`` USD is ``3_000_000``)."""

    tier: str
    tier_mc: int
    """What one node call on this model lists at, in mc."""
    input_price: int
    cached_input_price: int
    output_price: int


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

    Only list prices are looked at, for an own key never raises a charge. Raises InvalidRateCard naming the place.
    """
    per_call = {f"models.{provider}.{model}.tier": line.tier_mc for (provider, model), line in card.models.items()}
    per_call |= {f"tool_call.tools.{tool}": mc for tool, mc in card.tool_mc.items()}
    per_call |= {"tool_call.credits": card.tool_call_mc}
    for place, mc in per_call.items():
        _require_fits(place, mc * CALLS_MAX, f"{CALLS_MAX:,} calls")
    for (provider, model), line in card.models.items():
        # All of the input is either cached or not.
        usd_picos = (max(line.input_price, line.cached_input_price) + line.output_price) * TOKENS_MAX
        largest = round_half_even(usd_picos, card.usd_micros_per_credit)
        _require_fits(f"models.{provider}.{model}", largest, f"{TOKENS_MAX:,} tokens in and as many out")


def _require_fits(place: str, mc: int, of: str) -> None:
    if mc > AMOUNT_MC_MAX:
        most = AMOUNT_MC_MAX // MC_PER_CREDIT
        raise InvalidRateCard(
            f"{place}: {of}, which one event may report, cost {mc // MC_PER_CREDIT:,} credits;"
            f" an entry of the ledger holds at most {most:,}"
        )


def parse_rate_card(card: str, effective_from: datetime, body: Mapping[str, Any]) -> RateCard:
    """The card that a registry change carries. Raises InvalidRateCard naming the first place that is wrong."""
    tiers = {name: _credits(body, "tiers", name) for name in _mapping(body, "tiers")}
    node_call_mc = _credits(body, "own_key", "node_call_credits")
    if any(node_call_mc > tier_mc for tier_mc in tiers.values()):
        raise InvalidRateCard("own_key.node_call_credits: exceeds a tier, so an own key would raise a charge")
    return RateCard(
        card=card,
        effective_from=effective_from,
        usd_micros_per_credit=_positive(_usd_micros(body, "usd_per_credit"), "usd_per_credit"),
        own_key_providers=frozenset(_strings(body, "own_key", "providers")),
        scope_order=_scope_order(body),
        own_key_node_call_mc=node_call_mc,
        own_key_token_factor=_factor(body, "own_key", "token_factor"),
        tool_call_mc=_credits(body, "tool_call", "credits"),
        tool_mc={tool: _credits(body, "tool_call", "tools", tool) for tool in _mapping(body, "tool_call", "tools")},
        workflow_run_mc=_credits(body, "workflow_run", "credits"),
        charge_subflows=_boolean(body, "workflow_run", "charge_subflows"),
        models=_models(body, tiers),
    )


def _models(body: Mapping[str, Any], tiers: Mapping[str, int]) -> dict[tuple[str, str], ModelPrice]:
    models = {}
    for provider in _mapping(body, "models"):
        for model in _mapping(body, "models", provider):
            tier = _at(body, "models", provider, model, "tier")
            if not isinstance(tier, str) or tier not in tiers:
                raise InvalidRateCard(f"models.{provider}.{model}.tier: {tier!r} is not one of the card's tiers")
            prices = (
                _usd_micros(body, "models", provider, model, name)
                for name in ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
            )
            models[provider, model] = ModelPrice(tier, tiers[tier], *prices)
    return models


def _scope_order(body: Mapping[str, Any]) -> tuple[ScopeType, ...]:
    names = _strings(body, "own_key", "scope_order")
    if sorted(names) != ["personal", "team"]:
        raise InvalidRateCard("own_key.scope_order: must name team and personal, each once")
    return tuple(ScopeType(name) for name in names)


def _at(body: Mapping[str, Any], *path: str) -> Any:
    place: Any = body
    for index, name in enumerate(path):
        if not isinstance(place, Mapping) or name not in place:
            raise InvalidRateCard(f"{'.'.join(path[: index + 1])}: is missing")
        place = place[name]
    return place


def _mapping(body: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value = _at(body, *path)
    if not isinstance(value, Mapping):
        raise InvalidRateCard(f"{'.'.join(path)}: must be an object")
    return value


def _strings(body: Mapping[str, Any], *path: str) -> list[str]:
    value = _at(body, *path)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRateCard(f"{'.'.join(path)}: must be a list of strings")
    return value


def _boolean(body: Mapping[str, Any], *path: str) -> bool:
    value = _at(body, *path)
    if not isinstance(value, bool):
        raise InvalidRateCard(f"{'.'.join(path)}: must be true or false")
    return value


def _decimal(body: Mapping[str, Any], *path: str) -> Decimal:
    value = _at(body, *path)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidRateCard(f"{'.'.join(path)}: must be a whole number or a decimal in quotes")
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value) is None:
        raise InvalidRateCard(f"{'.'.join(path)}: is not a plain decimal number, such as 0.25")
    number = Decimal(value)
    if not 0 <= number <= _MAX_PRICE:
        raise InvalidRateCard(f"{'.'.join(path)}: must lie between 0 and {_MAX_PRICE}")
    return number


def _micros(number: Decimal, path: tuple[str, ...], unit: int) -> int:
    scaled = number * unit
    if scaled != scaled.to_integral_value():
        raise InvalidRateCard(f"{'.'.join(path)}: has more than six decimals")
    return int(scaled)


def _usd_micros(body: Mapping[str, Any], *path: str) -> int:
    return _micros(_decimal(body, *path), path, _MICRO)


def _credits(body: Mapping[str, Any], *path: str) -> int:
    return _micros(_decimal(body, *path), path, MC_PER_CREDIT)


def _positive(value: int, place: str) -> int:
    if value == 0:
        raise InvalidRateCard(f"{place}: must be greater than 0")
    return value


def _factor(body: Mapping[str, Any], *path: str) -> Ratio:
    factor = _decimal(body, *path)
    if factor > 1:
        raise InvalidRateCard(f"{'.'.join(path)}: must not exceed 1, or an own key would raise a charge")
    return Ratio(*factor.as_integer_ratio())
