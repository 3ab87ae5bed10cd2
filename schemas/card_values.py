"""The kinds of values on a rate card: amounts as exact millionths, factors, and names that the card itself gives."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from schemas.fields import Id

_MICRO = 1_000_000
_PRICE_MAX = 1_000_000
_TIMES_MAX = 1_000
_SPAN = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)", re.ASCII)
# No exponents, and few enough digits for Decimal to keep all of them when a number is scaled.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,15})?")


class Named(NamedTuple):
    """What the places of a body have to know of the names it gives, also where other places are wrong."""

    tiers: frozenset[str] | None
    """None where the body has no object of tiers: that is said once, and not of every model."""
    lowest_tier: int | None
    """Millionths of a credit; None where none can be read."""
    units: frozenset[str] | None
    """None where the body has no object of units."""
    wholes: frozenset[str]
    """Those of the units that lie within no other."""

    @classmethod
    def of(cls, body: Any) -> Named:
        """As far as any of it can be read."""
        tiers, units = _object(body, "tiers"), _object(body, "units")
        amounts = [amount for value in (tiers or {}).values() if (amount := _micros_or_none(value)) is not None]
        wholes = (name for name, unit in (units or {}).items() if isinstance(unit, dict) and "in" not in unit)
        return cls(
            None if tiers is None else frozenset(tiers),
            min(amounts, default=None),
            None if units is None else frozenset(units),
            frozenset(wholes),
        )


def _object(body: Any, name: str) -> dict[str, Any] | None:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, dict) else None


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("must be a whole number or a decimal in quotes")  # noqa: TRY004 - pydantic reports ValueErrors
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value) is None:
        raise ValueError("is not a plain decimal number, such as 0.25")
    number = Decimal(value)
    if not 0 <= number <= _PRICE_MAX:
        raise ValueError(f"must lie between 0 and {_PRICE_MAX}")
    return number


def _micros(value: Any) -> int:
    scaled = _decimal(value) * _MICRO
    if scaled != scaled.to_integral_value():
        raise ValueError("has more than six decimals")
    return int(scaled)


def _micros_or_none(value: Any) -> int | None:
    try:
        return _micros(value)
    except ValueError:
        return None


def _above_zero(micros: int) -> int:
    if micros == 0:
        raise ValueError("must be greater than 0")
    return micros


def _raises_no_charge(micros: int, info: ValidationInfo[Named]) -> int:
    if info.context.lowest_tier is not None and micros > info.context.lowest_tier:
        raise ValueError("exceeds a tier, so an own key would raise a charge")
    return micros


def _factor(value: Any) -> Decimal:
    factor = _decimal(value)
    if factor > 1:
        raise ValueError("must not exceed 1, or an own key would raise a charge")
    return factor


def _on_the_card(name: Any, info: ValidationInfo[Named]) -> Any:
    names = info.context.tiers
    if names is not None and not (isinstance(name, str) and name in names):
        raise ValueError(f"{name!r} is not one of the card's tiers")
    return name


def _each_once(names: list[str]) -> list[str]:
    if sorted(names) != ["personal", "team"]:
        raise ValueError("must name team and personal, each once")
    return names


def _units_known(prices: Any, info: ValidationInfo[Named]) -> Any:
    known = info.context.units
    if known is not None and isinstance(prices, dict):
        for name in prices:
            if name not in known:
                raise ValueError(f"{name!r} is not one of the card's units")
    return prices


def _is_whole(name: str, info: ValidationInfo[Named]) -> str:
    if info.context.units is not None and name not in info.context.wholes:
        raise ValueError(f"{name!r} is not one of the card's units that lie within no other")
    return name


def _lie_within(names: list[str], info: ValidationInfo[Named]) -> list[str]:
    known = info.context.units
    for name in names:
        if known is not None and (name not in known or name in info.context.wholes):
            raise ValueError(f"{name!r} is not one of the card's units that lie within another")
    return names


def _times(value: Any) -> Decimal:
    times = _decimal(value)
    if not 0 < times <= _TIMES_MAX:
        raise ValueError(f"must be greater than 0, and at most {_TIMES_MAX}")
    return times


def _span(text: str) -> str:
    if _SPAN.fullmatch(text) is None or text[:5] >= text[6:]:
        raise ValueError("must be a span of a day in UTC, such as 00:30-16:00; the end of the day is 24:00")
    return text


def _rising(bands: list[Any]) -> list[Any]:
    limits = [band.above_input_tokens for band in bands]
    if limits != sorted(set(limits)):
        raise ValueError("must be in the order of above_input_tokens, each once")
    return bands


def _amount(whole: int, *patterns: str, least: int = 0, **besides: Any) -> WithJsonSchema:
    text = {"type": "string", "pattern": f"^({'|'.join(patterns)})$", **besides}
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": least, "maximum": whole}, text]})


# Nine digits before the point and fifteen behind it, of which six may be other than 0, up to a million.
_SIX_DECIMALS = (r"0{0,3}[0-9]{1,6}(\.[0-9]{1,6}0{0,9})?", r"0{0,2}1000000(\.0{1,15})?")
_UP_TO_ONE = (r"0{1,9}(\.[0-9]{1,15})?", r"0{0,8}1(\.0{1,15})?")
_NOT_ZERO = {"not": {"pattern": r"^[0.]+$"}}

Micros = Annotated[int, BeforeValidator(_micros), _amount(_PRICE_MAX, *_SIX_DECIMALS)]
"""An amount as exact millionths: a JSON integer, or a decimal in quotes with at most six decimals, up to a million."""
PositiveMicros = Annotated[
    int,
    BeforeValidator(_micros),
    AfterValidator(_above_zero),
    _amount(_PRICE_MAX, *_SIX_DECIMALS, least=1, **_NOT_ZERO),
]
OwnKeyMicros = Annotated[Micros, AfterValidator(_raises_no_charge)]
Factor = Annotated[Decimal, BeforeValidator(_factor), _amount(1, *_UP_TO_ONE)]
"""An exact factor from 0 to 1, with up to fifteen decimals."""
Tier = Annotated[str, BeforeValidator(_on_the_card)]
ScopeOrder = Annotated[
    list[str],
    AfterValidator(_each_once),
    WithJsonSchema(
        {"type": "array", "items": {"enum": ["team", "personal"]}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    ),
]
Prices = Annotated[dict[str, Micros], BeforeValidator(_units_known), Field(min_length=1)]
"""USD by unit, for as many of it as the card's ``per`` says."""
Whole = Annotated[str, AfterValidator(_is_whole)]
Parts = Annotated[list[str], AfterValidator(_lie_within)]
Times = Annotated[Decimal, BeforeValidator(_times), _amount(_TIMES_MAX, r"[0-9]{1,9}(\.[0-9]{1,15})?", least=1)]
"""An exact factor greater than 0."""
Span = Annotated[str, AfterValidator(_span), WithJsonSchema({"type": "string", "pattern": f"^{_SPAN.pattern}$"})]
Rising = AfterValidator(_rising)
When = Annotated[dict[Id, Id], Field(min_length=1)]
"""Conditions of which all must be met."""
