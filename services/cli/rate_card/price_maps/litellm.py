"""LiteLLM's map of models: `model_prices_and_context_window.json`, an object by model of flat keys.

How its keys are meant is what its cost calculator does with them: a threshold is passed by more tokens, but of xAI
by as many; `fast` at OpenAI has the keys of `priority`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from services.cli.rate_card.price_maps.lines import (
    CACHE_WRITE_1H,
    CACHE_WRITE_5M,
    CACHE_WRITE_12H,
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
    number_of,
    span,
)
from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT

_PROVIDERS = {"gemini": "google", "fireworks_ai": "fireworks"}
_ACCOUNT = "accounts/fireworks/models/"
_MODES = frozenset({"chat", "completion", "embedding", "responses", None})
_UNITS = {
    "input_cost_per_token": INPUT,
    "output_cost_per_token": OUTPUT,
    "cache_read_input_token_cost": CACHE_READ,
    "input_cost_per_token_cache_hit": CACHE_READ,
    "cache_creation_input_token_cost": CACHE_WRITE_5M,
    "cache_creation_input_token_cost_above_1hr": CACHE_WRITE_1H,
    "cache_creation_input_token_cost_above_12hr": CACHE_WRITE_12H,
    "input_cost_per_audio_token": INPUT_AUDIO,
    "output_cost_per_audio_token": OUTPUT_AUDIO,
    "input_cost_per_image_token": INPUT_IMAGE,
    "output_cost_per_image_token": OUTPUT_IMAGE,
    "output_cost_per_reasoning_token": REASONING,
}
_SERVED: Mapping[str, tuple[str, str]] = {
    "batches": ("processing", "batch"),
    **{tier: ("service_tier", tier) for tier in ("flex", "balanced", "priority", "ultrafast")},
}
_KEY = re.compile(
    rf"(?P<unit>{'|'.join(sorted(_UNITS, key=len, reverse=True))})"
    rf"(_above_(?P<limit>[0-9]+)(?P<thousand>k?)_tokens)?(_(?P<served>{'|'.join(_SERVED)}))?"
)
_REACHED = frozenset({"xai"})
"""Whose thresholds are passed by as many tokens."""
_FAST_AS_PRIORITY = frozenset({"openai"})
_REGIONAL = re.compile(
    r"regional_processing_uplift_multiplier_(?P<region>[a-z]+)|(?P<fedramp>fedramp)_uplift_multiplier"
)
_FACTORS = {"us": "region", "eu": "region", "fast": "speed"}
_ABOUT_MONEY = re.compile(r"cost|price|pricing|multiplier|free")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_DAYS = {name: day for day, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 1)}


def read(data: bytes) -> tuple[Entry, ...]:
    """Every model of it that is billed by tokens. Raises PriceMapError where the file is no such map."""
    try:
        models = json.loads(data, parse_float=Decimal)
    except ValueError as error:
        raise PriceMapError(f"is not JSON: {error}") from None
    if not isinstance(models, dict):
        raise PriceMapError("is no map of LiteLLM: it must be an object by model")
    entries = [
        _entry(name, model)
        for name, model in models.items()
        if isinstance(model, dict) and isinstance(model.get("litellm_provider"), str) and name != "sample_spec"
    ]
    if not entries:
        raise PriceMapError("is no map of LiteLLM: nothing in it has a litellm_provider")
    return tuple(entry for entry in entries if entry is not None)


def _entry(name: str, model: Mapping[str, Any]) -> Entry | None:
    if model.get("mode") not in _MODES:
        return None
    provider = model["litellm_provider"]
    draft = Draft()
    for key, value in model.items():
        _state(draft, provider, key, value)
    return draft.entry(_PROVIDERS.get(provider, provider), _names(name, provider))


def _names(name: str, provider: str) -> Iterator[str]:
    own = name.removeprefix(f"{provider}/")
    yield own.removeprefix(_ACCOUNT)
    yield own
    yield name


def _state(draft: Draft, provider: str, key: str, value: Any) -> None:
    if found := _KEY.fullmatch(key):
        for place in _places(found, provider):
            draft.state(place, value, key)
    elif found := _REGIONAL.fullmatch(key):
        _uplift(draft, ("region", found["region"] or found["fedramp"]), value, key)
    elif key == "provider_specific_entry":
        _factors(draft, value)
    elif key == "search_context_cost_per_query":
        _searches(draft, value, key)
    elif key == "off_peak_pricing":
        _off_peak(draft, value, key)
    elif key == "tiered_pricing" and value:
        draft.spoil(key, "its steps are not read here")
    elif _ABOUT_MONEY.search(key) and value:
        draft.leave(key, "no card has a unit for it")


def _places(key: re.Match[str], provider: str) -> Iterator[Place]:
    limit = None
    if key["limit"]:
        limit = int(key["limit"]) * (1_000 if key["thousand"] else 1) - (provider in _REACHED)
    for when in _whens(key["served"], provider):
        yield Place(_UNITS[key["unit"]], limit, when)


def _whens(served: str | None, provider: str) -> Iterator[When]:
    yield (_SERVED[served],) if served else ()
    if served == "priority" and provider in _FAST_AS_PRIORITY:
        yield (("service_tier", "fast"),)


def _factors(draft: Draft, factors: Any) -> None:
    for name, value in factors.items() if isinstance(factors, dict) else ():
        if name in _FACTORS:
            _uplift(draft, (_FACTORS[name], name), value, f"provider_specific_entry.{name}")
        elif value != 1:
            draft.leave(f"provider_specific_entry.{name}", "no card has a condition for it")


def _uplift(draft: Draft, condition: tuple[str, str], value: Any, said: str) -> None:
    try:
        times = number_of(value)
    except InexactError as error:
        draft.leave(said, str(error))
        return
    if times != 1:
        draft.uplifts[condition,] = times


def _searches(draft: Draft, prices: Any, said: str) -> None:
    sizes = set(prices.values()) if isinstance(prices, dict) else set()
    if len(sizes) == 1:
        draft.state(Place(WEB_SEARCH), sizes.pop(), said)
    else:
        draft.leave(said, "differs by the size of the search's context")


def _off_peak(draft: Draft, block: Any, said: str) -> None:
    """Its flat hours hold every day; its windows hold on their weekdays, read in UTC."""
    try:
        if block.get("weekday_timezone") not in (None, "UTC"):
            draft.spoil(said, "its weekdays are not UTC's")
            return
        usd = {_UNITS[key]: micros_of(value, PER[_UNITS[key]]) for key, value in block.items() if key in _UNITS}
        rules = [*([block] if "hours_utc" in block else []), *block.get("windows", ())]
        draft.windows += [Window(tuple(_hours(rule["hours_utc"])), _days(rule.get("weekdays")), usd) for rule in rules]
    except InexactError as error:
        draft.spoil(said, str(error))
    except (AttributeError, KeyError, TypeError, ValueError):
        draft.spoil(said, "is written in a way that is not known here")


def _hours(written: str | Iterable[str]) -> Iterator[str]:
    for hours in [written] if isinstance(written, str) else written:
        start, end = (time.strip() for time in hours.split("-"))
        if not (_CLOCK.fullmatch(start) and _CLOCK.fullmatch(end)):
            raise ValueError(hours)
        yield from span(start, end)


def _days(written: Iterable[int | str] | None) -> tuple[int, ...]:
    days = range(1, 8) if written is None else written
    return tuple(sorted(day if isinstance(day, int) else _DAYS[day.strip().lower()[:3]] for day in days))
