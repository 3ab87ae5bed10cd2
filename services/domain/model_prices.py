"""What the units of one answered request cost, by a model's line of the card (docs/contract.md, section 5).

Units are data: the card names what can be billed, what lies within what, and what is billed as the unit it lies in.
Prices are integers in pico-USD (10^-12 USD) for one of a unit, which is what micro-USD per million is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from services.domain.credits import Ratio

INPUT, CACHE_READ, OUTPUT = "input", "cache_read", "output"
"""The three units that every card knows."""
PER_MILLION = 1_000_000
"""How many of a unit its price is for where the unit is a kind of tokens."""

Prices = Mapping[str, int]
"""Pico-USD for one of each unit."""
Counts = tuple[tuple[str, int], ...]
"""How many of each unit, in the order of their names."""
Conditions = tuple[tuple[str, str], ...]
"""What the provider says it served, in the order of the names."""
When = Mapping[str, str]
"""Conditions of which all must be met."""


class UnpricedError(Exception):
    """No price can be given, and none is guessed; the message says what is missing."""


class UnpricedUnitError(UnpricedError):
    """Something was used that the card has no price for; ``unit`` is its name."""

    def __init__(self, unit: str, said: str) -> None:
        """``said`` is the whole sentence."""
        super().__init__(said)
        self.unit = unit


class UnpricedConditionError(UnpricedError):
    """A condition changes the price, or may do, and the card does not say how; ``condition`` is its name."""

    def __init__(self, condition: str, said: str) -> None:
        """``said`` is the whole sentence."""
        super().__init__(said)
        self.condition = condition


class ImpossibleUsageError(UnpricedError):
    """More lies within a unit than there is of it: the counts cannot be true; ``unit`` is the part."""

    def __init__(self, unit: str, whole: str) -> None:
        """``whole`` is what ``unit`` lies within."""
        super().__init__(f"{unit} must not exceed {whole}, which it lies within")
        self.unit = unit


class Unit(NamedTuple):
    """Something that can be billed."""

    per: int
    """For how many of it a card gives the price; a million for tokens."""
    within: str | None = None
    """The unit whose count it is a part of."""

    @property
    def is_tokens(self) -> bool:
        """Whether uplifts apply to it: they do to tokens, and not to fees."""
        return self.per == PER_MILLION

    def price_of_one(self, micros: int) -> int:
        """Micro-USD for as many as a card prices together, as pico-USD for one."""
        return micros * (PER_MILLION // self.per)

    def price_on_card(self, picos: int) -> int:
        """The other way round."""
        return picos * self.per // PER_MILLION


class Units(NamedTuple):
    """What a card says of units and conditions, whatever the model."""

    by_name: Mapping[str, Unit]
    parts: Mapping[str, str]
    """The units that lie within another, and within which."""
    inherit: frozenset[str]
    """Units that are billed as the unit they lie in, where a model has no price of their own."""
    neutral: Mapping[str, frozenset[str]]
    """Values of conditions that change no price."""

    @classmethod
    def of(
        cls,
        by_name: Mapping[str, Unit],
        inherit: frozenset[str] = frozenset(),
        neutral: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> Units:
        """With the parts as the units themselves say."""
        parts = {name: unit.within for name, unit in by_name.items() if unit.within is not None}
        return cls(by_name, parts, inherit, neutral)

    def is_neutral(self, name: str, value: str) -> bool:
        """Whether the condition changes no price, whatever the model."""
        return value in self.neutral.get(name, ())


UNITS_OF_SCHEMA_1 = Units.of(
    {INPUT: Unit(PER_MILLION), CACHE_READ: Unit(PER_MILLION, INPUT), OUTPUT: Unit(PER_MILLION)}
)
"""A card of schema 1 prices these, and knows no conditions."""


class Band(NamedTuple):
    """Other prices for all of a request whose input is longer than this."""

    above_input_tokens: int
    prices: Prices


class Window(NamedTuple):
    """Other prices at some times of the week, in UTC."""

    weekdays: frozenset[int]
    """As ISO 8601 numbers them: Monday is 1."""
    minutes: tuple[tuple[int, int], ...]
    """Half-open spans of a day, in minutes from its beginning."""
    prices: Prices

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` (UTC) lies in it."""
        minute = at.hour * 60 + at.minute
        return at.isoweekday() in self.weekdays and any(start <= minute < end for start, end in self.minutes)

    @property
    def spans(self) -> list[str]:
        """The same spans as a card writes them: ``00:30-16:00``."""
        return [f"{_clock(start)}-{_clock(end)}" for start, end in self.minutes]


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


class Variant(NamedTuple):
    """Other prices for what was served in another way, such as in a batch."""

    when: When
    prices: Prices
    bands: tuple[Band, ...] = ()


class Uplift(NamedTuple):
    """A factor on all tokens, such as for a region."""

    when: When
    times: Ratio


class ModelPrice(NamedTuple):
    """One line of a card."""

    tier: str
    tier_mc: int
    """What one node call on this model lists at, in mc."""
    prices: Prices
    bands: tuple[Band, ...] = ()
    windows: tuple[Window, ...] = ()
    variants: tuple[Variant, ...] = ()
    uplifts: tuple[Uplift, ...] = ()


class Billed(NamedTuple):
    """One line of a bill: so many of a unit, without what is priced apart within it, at this price."""

    unit: str
    quantity: int
    price: int
    is_tokens: bool

    def picos(self, times: Ratio) -> int:
        """What it costs with all uplifts, in parts of a pico-USD: so many as ``times`` has in its denominator."""
        return self.quantity * self.price * (times.numerator if self.is_tokens else times.denominator)


class Bill(NamedTuple):
    """What one request cost, before the one rounding."""

    lines: tuple[Billed, ...]
    uplifts: tuple[Uplift, ...]
    """Those that were met, on every line of tokens."""
    variant: Variant | None
    band: Band | None
    """The last one that was laid over the prices."""
    window: Window | None

    @property
    def cost(self) -> Ratio:
        """In pico-USD, exact."""
        times = _product(self.uplifts)
        return Ratio(sum([line.picos(times) for line in self.lines]), times.denominator)

    def cost_of(self, line: Billed) -> Ratio:
        """What one of its lines costs, in pico-USD, exact; over the same denominator for all of them."""
        times = _product(self.uplifts)
        return Ratio(line.picos(times), times.denominator)


def require_parts_fit(usage: Counts, units: Units) -> None:
    """Raise ImpossibleUsageError where a unit is counted more often than the unit that it lies within."""
    counts, parts = dict(usage), units.parts
    for name, count in usage:
        if name in parts and count > counts.get(parts[name], 0):
            raise ImpossibleUsageError(name, parts[name])


def bill(usage: Counts, conditions: Conditions, at: datetime, price: ModelPrice, units: Units) -> Bill:
    """What a request that was answered at ``at`` (UTC) costs.

    Raises ImpossibleUsageError, UnpricedUnitError or UnpricedConditionError, the first of them that holds.
    """
    counts, said = dict(usage), dict(conditions)
    window = _window(price.windows, at)
    variant = _variant(price.variants, said)
    band = _band(price.bands, counts)
    prices = _over(price.prices, window, band)
    if variant is not None:
        of_variant = _band(variant.bands, counts)
        prices, band = _over(prices, variant, of_variant), of_variant or band
    lines = tuple(
        Billed(name, rest, one, units.by_name[name].is_tokens)
        for name, rest, one in _lines(_rests(usage, prices, units), prices, units)
    )
    uplifts = tuple([each for each in price.uplifts if _met(each.when, said)]) if price.uplifts else ()
    if said:
        met = [*([] if variant is None else [variant.when]), *(each.when for each in uplifts)]
        _require_understood(said, met, units)
    return Bill(lines, uplifts, variant, band, window)


def cost(usage: Counts, conditions: Conditions, at: datetime, price: ModelPrice, units: Units) -> Ratio:
    """What the bill of a request comes to, in pico-USD, exact; most need no bill for that. Raises as ``bill`` does."""
    # Without a condition there is no variant and no uplift: each has one that must be met.
    if conditions or price.bands or price.windows:
        return bill(usage, conditions, at, price, units).cost
    prices, picos = price.prices, 0
    for name, rest in _rests(usage, prices, units).items():
        if rest > 0 and _is_priced(name, prices, units):
            picos += rest * prices[name]
    return Ratio(picos, 1)


def _window(windows: Iterable[Window], at: datetime) -> Window | None:
    for window in windows:
        if window.holds(at):
            return window
    return None


def _variant(variants: Iterable[Variant], said: Mapping[str, str]) -> Variant | None:
    for variant in variants:
        if _met(variant.when, said):
            return variant
    return None


def _met(when: When, said: Mapping[str, str]) -> bool:
    return when.items() <= said.items()


def _band(bands: Sequence[Band], counts: Mapping[str, int]) -> Band | None:
    if not bands:
        return None
    passed = [band for band in bands if band.above_input_tokens < counts.get(INPUT, 0)]
    return max(passed, key=lambda band: band.above_input_tokens, default=None)


def _over(prices: Prices, *others: Window | Band | Variant | None) -> Prices:
    """The prices with others laid over them; what these leave out stays as it is."""
    for other in others:
        if other is not None:
            prices = {**prices, **other.prices}
    return prices


def _rests(usage: Counts, prices: Prices, units: Units) -> dict[str, int]:
    """How many of each unit are billed as itself: what is priced apart within it is taken off."""
    rests, parts = dict(usage), units.parts
    for name, count in usage:
        if name in parts and name in prices and count:
            whole = parts[name]
            rests[whole] = rest = rests.get(whole, 0) - count
            if rest < 0:
                raise ImpossibleUsageError(name, whole)
    return rests


def _lines(rests: Mapping[str, int], prices: Prices, units: Units) -> list[tuple[str, int, int]]:
    """Of each unit that is billed its name, how many, and the price of one."""
    return [(name, rest, prices[name]) for name, rest in rests.items() if rest > 0 and _is_priced(name, prices, units)]


def _is_priced(name: str, prices: Prices, units: Units) -> bool:
    """Whether it has a price, and is not billed as the unit that it lies in. Raises UnpricedUnitError."""
    if name in prices:
        return True
    if name in units.inherit:
        return False
    raise UnpricedUnitError(name, f"has no price for {name}")


def _require_understood(said: Mapping[str, str], met: Iterable[When], units: Units) -> None:
    understood = {name for when in met for name in when}
    for name, value in said.items():
        if name not in understood and not units.is_neutral(name, value):
            raise UnpricedConditionError(name, f"does not say what {name} {value} costs")


_AS_IT_IS = Ratio(1, 1)


def _product(uplifts: Iterable[Uplift]) -> Ratio:
    if not uplifts:
        return _AS_IT_IS
    times = [uplift.times for uplift in uplifts]
    return Ratio(prod(each.numerator for each in times), prod(each.denominator for each in times))


def most_expensive(price: ModelPrice, units: Units) -> Ratio:
    """What one of every unit that lies within no other costs at most, in pico-USD: a bound, not a price."""
    dearest: dict[str, int] = {}
    for prices in _all_prices(price):
        for name, one in prices.items():
            whole = units.by_name[name].within or name
            dearest[whole] = max(dearest.get(whole, 0), one)
    times = _product(uplift for uplift in price.uplifts if uplift.times.numerator > uplift.times.denominator)
    return Ratio(sum(dearest.values()) * times.numerator, times.denominator)


def _all_prices(price: ModelPrice) -> Iterable[Prices]:
    overlays: list[Band | Window | Variant] = [*price.bands, *price.windows, *price.variants]
    overlays += [band for variant in price.variants for band in variant.bands]
    return [price.prices, *(each.prices for each in overlays)]
