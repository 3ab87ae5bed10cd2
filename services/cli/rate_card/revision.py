"""One model's line of a card, brought up to date with what a public map states of it.

A card lays prices over others and leaves out those that stay; a map may write them all. So what counts is what would be
charged: a stated price that is charged already changes nothing, and what the map does not state stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from schemas.rate_card import ModelPrices
from services.cli.rate_card.price_maps.lines import PER, LeftOut, Line, Place, When, Window
from services.domain.model_prices import PER_MILLION

WINDOWS = "windows"
Parents = Mapping[str, str]
"""To each unit that is billed as another where it has no price, that other."""


class Revision(NamedTuple):
    """What comes of a line and a map."""

    line: Line
    kept: tuple[str, ...]
    """What stays because the map does not state it."""
    left_out: tuple[LeftOut, ...]


def line_of(model: ModelPrices) -> Line:
    """The line as it stands on a card."""
    usd = dict(_places(model.usd, model.bands, ()))
    for variant in model.variants:
        usd |= dict(_places(variant.usd, variant.bands, _when(variant.when)))
    windows = tuple(Window(tuple(each.utc), tuple(each.weekdays), each.usd) for each in model.windows)
    return Line(usd, windows, {_when(uplift.when): uplift.times for uplift in model.uplifts})


def _places(usd: Mapping[str, int], bands: Iterable[Any], when: When) -> Iterator[tuple[Place, int]]:
    yield from ((Place(unit, None, when), micros) for unit, micros in usd.items())
    for band in bands:
        yield from ((Place(unit, band.above_input_tokens, when), micros) for unit, micros in band.usd.items())


def _when(conditions: Mapping[str, str]) -> When:
    return tuple(sorted(conditions.items()))


def written(tier: str, line: Line, units: Iterable[str]) -> dict[str, Any]:
    """The line as a card writes it, with units in the order of the card's."""
    order = list(units)
    body: dict[str, Any] = {"tier": tier, **_priced(line.usd, (), order)}
    if line.windows:
        body["windows"] = [
            {"utc": [*each.utc], "weekdays": [*each.weekdays], "usd": _usd(each.usd, order)} for each in line.windows
        ]
    whens = dict.fromkeys(place.when for place in line.usd if place.when)
    if whens:
        body["variants"] = [{"when": dict(when), **_priced(line.usd, when, order)} for when in whens]
    if line.uplifts:
        body["uplifts"] = [{"when": dict(when), "times": text_of(times)} for when, times in line.uplifts.items()]
    return body


def _priced(usd: Mapping[Place, int], when: When, order: list[str]) -> dict[str, Any]:
    found = {place: micros for place, micros in usd.items() if place.when == when}
    limits = sorted({place.above for place in found if place.above is not None})
    of = {
        above: _usd({place.unit: micros for place, micros in found.items() if place.above == above}, order)
        for above in (None, *limits)
    }
    bands = [{"above_input_tokens": above, "usd": of[above]} for above in limits]
    return {"usd": of[None], **({"bands": bands} if bands else {})}


def _usd(usd: Mapping[str, int], order: list[str]) -> dict[str, str]:
    return {unit: usd_text(usd[unit]) for unit in order if unit in usd}


def usd_text(micros: int) -> str:
    """Micro-USD in USD, as a card writes them."""
    return text_of(Decimal(micros).scaleb(-6))


def text_of(number: Decimal) -> str:
    """Without an exponent, and without zeros at the end."""
    return format(number.normalize(), "f")


def revise(card: Line, stated: Line, parents: Parents) -> Revision:
    """The card's line, with what the map states in the place of what is charged otherwise."""
    usd = _within_bands(card.usd, stated.usd)
    uplifts = dict(card.uplifts)
    for when in sorted({place.when for place in stated.usd}):
        places = _lowest_first((place for place in stated.usd if place.when == when), parents)
        if when in uplifts:
            if _is_factor({place: stated.usd[place] for place in places}, uplifts[when], usd, parents):
                continue
            # A variant beside a factor for the same would be charged with both.
            del uplifts[when]
        for place in places:
            if charged(usd, place, parents) != stated.usd[place] or _hides_another(usd, place):
                usd[place] = stated.usd[place]
    left_out = _uplift(uplifts, usd, stated, parents)
    windows = stated.windows if stated.windows and not _same(card.windows, stated.windows) else card.windows
    line = Line(_narrowest_first(usd, card), windows, uplifts)
    return Revision(line, tuple(_kept(card, line, stated, parents)), tuple(left_out))


def _lowest_first(places: Iterable[Place], parents: Parents) -> list[Place]:
    """Each after those by which it would be charged if it were not there."""
    return sorted(places, key=lambda place: (_limit(place), place.unit in parents))


def _narrowest_first(usd: Mapping[Place, int], card: Line) -> dict[Place, int]:
    """New variants for several conditions before all others: of variants the first whose conditions are met counts."""
    known = {place.when for place in card.usd}
    new = [place for place in usd if len(place.when) > 1 and place.when not in known]
    return {place: usd[place] for place in [*sorted(new, key=lambda place: -len(place.when)), *usd]}


def _hides_another(usd: Mapping[Place, int], place: Place) -> bool:
    """Whether a band begins there above another one, which would count no longer: then its prices are all written."""
    limits = {_limit(other) for other in usd if other.when == place.when and other.above is not None}
    return place.above is not None and place.above not in limits and min(limits, default=place.above) < place.above


def _limit(place: Place) -> int:
    return -1 if place.above is None else place.above


def _within_bands(usd: Mapping[Place, int], stated: Mapping[Place, int]) -> dict[Place, int]:
    """With the bands of the map, where it has any for the same: at its limits, and at no others."""
    limits: dict[When, set[int]] = {}
    for place in stated:
        if place.above is not None:
            limits.setdefault(place.when, set()).add(place.above)
    within = {
        place: micros
        for place, micros in usd.items()
        if place.above is None or place.when not in limits or place.above in limits[place.when]
    }
    for when, of_map in limits.items():
        for limit in sorted(of_map - {place.above for place in within if place.when == when}):
            within |= _as_below(within, limit, when)
    return within


def _as_below(usd: Mapping[Place, int], limit: int, when: When) -> dict[Place, int]:
    """A band at ``limit`` with the prices of the one below it, which would count no longer."""
    below = [place.above for place in usd if place.when == when and place.above is not None and place.above < limit]
    return {
        place._replace(above=limit): micros
        for place, micros in usd.items()
        if below and place.when == when and place.above == max(below)
    }


def _uplift(
    uplifts: dict[When, Decimal], usd: Mapping[Place, int], stated: Line, parents: Parents
) -> Iterator[LeftOut]:
    for when, times in stated.uplifts.items():
        variant = {place: micros for place, micros in usd.items() if place.when == when}
        if not variant:
            uplifts[when] = times
        elif not _is_factor(variant, times, usd, parents):
            yield LeftOut(f"{_named(when)} times {text_of(times)}", "the card has prices for it, and no factor")


def _is_factor(variant: Mapping[Place, int], times: Decimal, usd: Mapping[Place, int], parents: Parents) -> bool:
    """Whether the variant says of all tokens that they cost so many times as much."""
    factor = times.as_integer_ratio()
    return all(
        charged(usd, place._replace(when=()), parents) * factor[0] == micros * factor[1]
        for place, micros in variant.items()
        if PER.get(place.unit, PER_MILLION) == PER_MILLION
    )


def charged(usd: Mapping[Place, int], place: Place, parents: Parents) -> int:
    """What is charged there: by the price itself, or by the one over which nothing is laid; -1 where there is none."""
    for layer in _layers(usd, place):
        if layer in usd:
            return usd[layer]
    parent = parents.get(place.unit)
    return -1 if parent is None else charged(usd, place._replace(unit=parent), parents)


def _layers(usd: Mapping[Place, int], place: Place) -> Iterator[Place]:
    for when in dict.fromkeys((place.when, ())):
        if place.above is not None:
            limits = [other.above for other in usd if other.when == when and other.above is not None]
            passed = [limit for limit in limits if limit <= place.above]
            if passed:
                yield Place(place.unit, max(passed), when)
        yield Place(place.unit, None, when)


def _same(windows: Iterable[Window], others: Iterable[Window]) -> bool:
    def plain(window: Window) -> tuple[Any, ...]:
        return sorted(window.utc), sorted(window.weekdays), dict(window.usd)

    return [*map(plain, windows)] == [*map(plain, others)]


def _kept(card: Line, line: Line, stated: Line, parents: Parents) -> Iterator[str]:
    for place in card.usd:
        if place in line.usd and place not in stated.usd and charged(stated.usd, place, parents) != card.usd[place]:
            yield str(place)
    if card.windows and not stated.windows:
        yield WINDOWS
    whens = {place.when for place in stated.usd}
    for when in line.uplifts:
        if when not in stated.uplifts and when not in whens:
            yield f"factor for {_named(when)}"


def _named(when: When) -> str:
    return " ".join(f"{name} {value}" for name, value in when)


def differing(before: Line, after: Line) -> Iterator[tuple[str, str | None, str | None]]:
    """Each place that says something else, with what it said and says."""
    for place in sorted(before.usd.keys() | after.usd.keys(), key=lambda each: (each.when, _limit(each), each.unit)):
        was, now = before.usd.get(place), after.usd.get(place)
        if was != now:
            yield str(place), None if was is None else usd_text(was), None if now is None else usd_text(now)
    if not _same(before.windows, after.windows):
        yield WINDOWS, _windows_text(before), _windows_text(after)
    for when in sorted(before.uplifts.keys() | after.uplifts.keys()):
        was_times, now_times = _times(before, when), _times(after, when)
        if was_times != now_times:
            yield f"factor for {_named(when)}", was_times, now_times


def _times(line: Line, when: When) -> str | None:
    times = line.uplifts.get(when)
    return None if times is None else text_of(times)


def _windows_text(line: Line) -> str | None:
    return "; ".join(f"{', '.join(window.utc)} on {len(window.weekdays)} days" for window in line.windows) or None
