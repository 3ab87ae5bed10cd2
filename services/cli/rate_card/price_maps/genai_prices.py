"""The map of genai-prices: `data.json`, a list of providers, or since version 3 an object that has one.

How it is meant is what its own calculator does: a tier holds for more input tokens than its `start`; of prices with
constraints the last that holds counts, whole; of variants for the same context the first that names a price gives it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from services.cli.rate_card.price_maps.lines import (
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    INPUT_AUDIO,
    INPUT_IMAGE,
    OUTPUT_AUDIO,
    OUTPUT_IMAGE,
    PER,
    REASONING,
    WEB_SEARCH,
    Draft,
    Entry,
    InexactError,
    Place,
    PriceMapError,
    When,
    Window,
    micros_of,
    span,
)
from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT

_PROVIDERS = {"x-ai": "xai"}
_UNITS = {
    "input_mtok": INPUT,
    "cache_read_mtok": CACHE_READ,
    "cache_write_mtok": CACHE_WRITE_5M,
    "cache_write_5m_mtok": CACHE_WRITE_5M,
    "cache_write_1h_mtok": CACHE_WRITE_1H,
    "output_mtok": OUTPUT,
    "output_reasoning_mtok": REASONING,
    "input_audio_mtok": INPUT_AUDIO,
    "output_audio_mtok": OUTPUT_AUDIO,
    "input_image_mtok": INPUT_IMAGE,
    "output_image_mtok": OUTPUT_IMAGE,
    "web_searches_kcount": WEB_SEARCH,
}
_ALL_DAYS = (1, 2, 3, 4, 5, 6, 7)

Prices = Mapping[str, Any]


def read(data: bytes, at: datetime) -> tuple[Entry, ...]:
    """Every model of it, by the prices that hold on the day of ``at`` (UTC).

    Raises PriceMapError where the file is no such map.
    """
    try:
        found = json.loads(data, parse_float=Decimal)
    except ValueError as error:
        raise PriceMapError(f"is not JSON: {error}") from None
    providers = found.get("providers") if isinstance(found, dict) else found
    try:
        entries = [
            _entry(provider["id"], model, at.astimezone(UTC).date())
            for provider in providers or ()
            for model in provider["models"]
        ]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PriceMapError(f"is no map of genai-prices ({type(error).__name__}: {error})") from None
    if not entries:
        raise PriceMapError("is no map of genai-prices: no provider in it has models")
    return tuple(entries)


def _entry(provider: str, model: Mapping[str, Any], on: date) -> Entry:
    draft = Draft()
    prices, windows = _in_force(model["prices"], on)
    for key, price in prices.items():
        _state(draft, key, price, ())
    for window in windows:
        _window(draft, window)
    for when, variant in _variants(draft, model, on).items():
        for key, price in variant.items():
            _state(draft, key, price, when)
    return draft.entry(_PROVIDERS.get(provider, provider), [model["id"], *_equal_to(model.get("match", {}))])


def _equal_to(match: Mapping[str, Any]) -> Iterator[str]:
    """The names that a model is known by exactly; patterns are not taken for names."""
    for name, clause in match.items():
        if name == "equals":
            yield clause
        elif name == "or":
            for each in clause:
                yield from _equal_to(each)


def _in_force(prices: Any, on: date) -> tuple[Prices, Sequence[Mapping[str, Any]]]:
    """Those of the day, and before them in rank those of some hours."""
    if isinstance(prices, dict) or not prices:
        return prices or {}, ()
    of_hours = []
    for conditional in reversed(prices):
        constraint = conditional.get("constraint") or {}
        if "start_time" in constraint:
            of_hours.append(conditional)
        elif _has_begun(constraint, on):
            return conditional["prices"], of_hours
    # By its calculator the first one holds where none else does.
    return prices[0]["prices"], [each for each in of_hours if each is not prices[0]]


def _has_begun(constraint: Mapping[str, Any], on: date) -> bool:
    return "start_date" not in constraint or date.fromisoformat(constraint["start_date"]) <= on


def _state(draft: Draft, key: str, price: Any, when: When) -> None:
    unit = _UNITS.get(key)
    if price is None:
        return
    if unit is None:
        draft.leave(key, "no card has a unit for it")
        return
    of = PER[unit]
    if not isinstance(price, dict):
        draft.state(Place(unit, None, when), price, key, of=of)
        return
    draft.state(Place(unit, None, when), price["base"], key, of=of)
    for tier in price["tiers"]:
        draft.state(Place(unit, tier["start"], when), tier["price"], key, of=of)


def _window(draft: Draft, conditional: Mapping[str, Any]) -> None:
    said = "a price of some hours"
    spans = tuple(span(_clock(conditional["constraint"]["start_time"]), _clock(conditional["constraint"]["end_time"])))
    try:
        usd = {
            _UNITS[key]: micros_of(price, PER[_UNITS[key]], PER[_UNITS[key]])
            for key, price in conditional["prices"].items()
            if key in _UNITS and price is not None
        }
    except InexactError as error:
        draft.spoil(said, str(error))
        return
    last = draft.windows[-1] if draft.windows else None
    if last is not None and last.usd == usd:
        draft.windows[-1] = last._replace(utc=tuple(sorted((*last.utc, *spans))))
    else:
        draft.windows.append(Window(tuple(sorted(spans)), _ALL_DAYS, usd))


def _clock(written: str) -> str:
    at = time.fromisoformat(written)
    if at.utcoffset():
        at = datetime.combine(date(1970, 1, 2), at).astimezone(UTC).timetz()
    if at.second or at.microsecond:
        raise ValueError(f"{written} is not a whole minute")
    return at.strftime("%H:%M")


def _variants(draft: Draft, model: Mapping[str, Any], on: date) -> dict[When, dict[str, Any]]:
    found: dict[When, dict[str, Any]] = {}
    for variant in model.get("price_variants") or ():
        constraint = variant.get("constraint") or {}
        when = tuple(sorted(variant["when"].items()))
        if "start_time" in constraint:
            draft.leave(f"the variant {dict(when)}", "holds at some hours only")
        elif _has_begun(constraint, on):
            prices = found.setdefault(when, {})
            for key, price in variant["prices"].items():
                prices.setdefault(key, price)
    return found
