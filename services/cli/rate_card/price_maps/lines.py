"""What a model costs, place by place, as a public map states it; and what of it no card can say.

Prices are whole micro-USD for as many of a unit as ``PER`` says. Nothing is rounded and nothing guessed: what cannot be
said exactly is left out, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, PER_MILLION

CACHE_WRITE_5M, CACHE_WRITE_1H, CACHE_WRITE_12H = "cache_write_5m", "cache_write_1h", "cache_write_12h"
INPUT_AUDIO, INPUT_IMAGE, OUTPUT_AUDIO, OUTPUT_IMAGE = "input_audio", "input_image", "output_audio", "output_image"
REASONING, WEB_SEARCH = "reasoning", "web_search"
PER: Mapping[str, int] = {
    **dict.fromkeys((INPUT, CACHE_READ, CACHE_WRITE_5M, CACHE_WRITE_1H, CACHE_WRITE_12H), PER_MILLION),
    **dict.fromkeys((INPUT_AUDIO, INPUT_IMAGE, OUTPUT, REASONING, OUTPUT_AUDIO, OUTPUT_IMAGE), PER_MILLION),
    WEB_SEARCH: 1_000,
}
"""The units that the maps know, by the names that our cards give them, and for how many of each a price is."""

When = tuple[tuple[str, str], ...]
"""Conditions of which all must be met, in the order of their names."""

_MICRO = 1_000_000
_USD_MAX = 1_000_000
_SMALLEST = Decimal("1e-30")


class PriceMapError(ValueError):
    """The file is no such map; the message says what is wrong."""


class InexactError(ValueError):
    """No card can say this number; the message says why."""


class Place(NamedTuple):
    """Where on a model's line a price stands."""

    unit: str
    above: int | None = None
    """In the band for more input tokens than this."""
    when: When = ()
    """In the variant for these conditions."""

    def __str__(self) -> str:
        served = "".join(f"{value} " for _, value in self.when)
        return f"{served}{self.unit}{'' if self.above is None else f' above {self.above:,}'}"


class Window(NamedTuple):
    """Other prices at some times of the week, in UTC, as a card writes them."""

    utc: tuple[str, ...]
    weekdays: tuple[int, ...]
    usd: Mapping[str, int]
    """Micro-USD, by unit."""


class Line(NamedTuple):
    """What a model costs."""

    usd: Mapping[Place, int]
    windows: tuple[Window, ...] = ()
    uplifts: Mapping[When, Decimal] = {}


class LeftOut(NamedTuple):
    """Something a map says that is not taken over."""

    what: str
    why: str


class Entry(NamedTuple):
    """One model of a map."""

    provider: str
    """As our cards call it."""
    names: tuple[str, ...]
    """Under which the map lists it; first the one that a card would use."""
    line: Line | None
    """None where it has prices that no card can say, without which the others would be wrong."""
    left_out: tuple[LeftOut, ...]


def micros_of(usd: Any, per: int, of: int = 1) -> int:
    """Micro-USD for ``per`` of a unit, of which ``of`` cost so many USD. Raises InexactError."""
    number = number_of(usd)
    if number and not _SMALLEST <= number <= _USD_MAX:
        raise InexactError(f"{usd} is no price")
    micros = Fraction(number) * per * _MICRO / of
    if micros > _USD_MAX * _MICRO:
        raise InexactError(f"{usd} is no price")
    if micros.denominator != 1:
        raise InexactError("has more than six decimals")
    return int(micros)


def number_of(value: Any) -> Decimal:
    """The number as it is written. Raises InexactError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InexactError("is no number")
    return Decimal(value)


class Draft:
    """A line while it is read."""

    def __init__(self) -> None:
        """Nothing is stated yet."""
        self.usd: dict[Place, int] = {}
        self.windows: list[Window] = []
        self.uplifts: dict[When, Decimal] = {}
        self.left_out: list[LeftOut] = []
        self._spoilt: set[When] = set()
        self._whole = True

    def state(self, place: Place, usd: Any, said: str, *, of: int = 1) -> None:
        """``of`` of the unit cost so many USD, which the map calls ``said``."""
        try:
            micros = micros_of(usd, PER[place.unit], of)
        except InexactError as error:
            self._spoil(place, said, str(error))
            return
        if self.usd.setdefault(place, micros) != micros:
            self._spoil(place, said, "the map says another price for it, too")

    def leave(self, said: str, why: str) -> None:
        """Not taken over, and the rest is right without it."""
        self.left_out.append(LeftOut(said, why))

    def spoil(self, said: str, why: str) -> None:
        """Not taken over, and without it the whole line would be wrong."""
        self.leave(said, why)
        self._whole = False

    def _spoil(self, place: Place, said: str, why: str) -> None:
        # A unit without a price, or a variant that is not there, is told of each event that needs it. A band that
        # lacks a price would be billed as if there were no band.
        self.leave(said, why)
        if place.when:
            self._spoilt.add(place.when)
        elif place.above is not None:
            self._whole = False
        else:
            self.usd.pop(place, None)

    def entry(self, provider: str, names: Iterable[str]) -> Entry:
        """What came of it."""
        self._leave_zeros()
        usd = {place: micros for place, micros in self.usd.items() if place.when not in self._spoilt}
        line = Line(_complete_bands(usd), tuple(self.windows), self.uplifts) if self._whole and usd else None
        return Entry(provider, tuple(dict.fromkeys(names)), line, tuple(self.left_out))

    def _leave_zeros(self) -> None:
        """In these maps 0 is free as well as unknown."""
        free = [place for place, micros in self.usd.items() if micros == 0]
        for place in free:
            if self.usd.get(Place(place.unit)):
                self._spoil(place, str(place), "is 0, which may mean unknown")
            else:
                self.leave(str(place), "is 0, which may mean unknown")
        for place in free:
            self.usd.pop(place, None)


def _complete_bands(usd: Mapping[Place, int]) -> dict[Place, int]:
    """Of a card the highest band alone counts, so that it has to say what a lower one has changed."""
    complete = dict(usd)
    for when in {place.when for place in usd}:
        limits = sorted({place.above for place in usd if place.when == when and place.above is not None})
        for lower, higher in pairwise(limits):
            for place, micros in [*complete.items()]:
                if place.when == when and place.above == lower:
                    complete.setdefault(place._replace(above=higher), micros)
    return complete


def span(start: str, end: str) -> list[str]:
    """A span of a day from ``HH:MM`` to ``HH:MM`` as a card writes it: two of them where it goes past midnight."""
    if start < end:
        return [f"{start}-{end}"]
    before = [f"{start}-24:00"]
    return before if end == "00:00" else [*before, f"00:00-{end}"]
