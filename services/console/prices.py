"""Prices with and without an own key, side by side, as the registry's ``GET /v1/models`` has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from services.console.apis import Json

# Which model of a tier people are told the price of: the first of these that the card lists there, else that with the
# most names. No more than examples: what they cost is said by the card alone.
_WELL_KNOWN = (
    "claude-sonnet-4-6",
    "claude-opus-5",
    "gpt-5.4",
    "gpt-5.5",
    "gpt-5.4-nano",
    "gemini-2.5-flash",
    "gemini-3.1-pro-preview",
    "grok-4.5",
    "grok-4.3",
    "deepseek-chat",
    "deepseek-v4-pro",
)


class CallPrice(NamedTuple):
    """What an AI node call costs, in credits."""

    model: str
    tier: str
    list_credits: str
    own_credits: str


class OwnKeyPrices(NamedTuple):
    """What a key for one provider makes of its prices."""

    calls: tuple[CallPrice, ...]
    """A model of each tier, the best known tier first."""
    token_percent: str
    """Of what tokens list at."""


def own_key_prices(models: Json) -> Mapping[str, OwnKeyPrices]:
    """Of each provider that takes own keys."""
    own = models["own_key"]
    percent = f"{(Decimal(own['token_factor']) * 100).normalize():f}"
    return {
        provider: OwnKeyPrices(
            tuple(
                CallPrice(each["model"], each["tier"], each["tier_credits"], own["node_call_credits"])
                for each in _examples(model for model in models["models"] if model["provider"] == provider)
            ),
            percent,
        )
        for provider in own["providers"]
    }


def _examples(models: Iterable[Json]) -> list[Json]:
    """One of each tier, the best known first."""
    best: dict[str, Json] = {}
    for model in sorted(models, key=_fame):
        best.setdefault(model["tier"], model)
    return sorted(best.values(), key=_fame)


def _fame(model: Json) -> tuple[int, int, str]:
    name = model["model"]
    return (_WELL_KNOWN.index(name) if name in _WELL_KNOWN else len(_WELL_KNOWN), -len(model["aliases"]), name)
