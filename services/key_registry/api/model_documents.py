"""What is asked and answered about models: their prices as the card in force has them, and their other names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.fields import Id
from services.domain.credits import Ratio, format_exactly, format_ratio
from services.domain.directory import ModelAliases
from services.domain.model_prices import Band, ModelPrice, Prices, Units, Variant
from services.domain.rate_card import RateCard
from services.domain.rating import Amounts, cost_to_mc
from services.domain.resolution import KeySource
from services.key_registry.handlers.models import AliasesView, Model, Models

ALIASES_MAX = 1_000
"""How many names one request may add."""


class AliasesRequest(BaseModel):
    """Other names that runners report for models of a provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Id
    aliases: Annotated[dict[Id, Id], Field(min_length=1, max_length=ALIASES_MAX)] = Field(
        description="To each of them, to the letter, the name that a rate card lists."
    )

    def to_domain(self) -> ModelAliases:
        """The same in the words of the use case."""
        return ModelAliases(self.provider, self.aliases)


class AliasesDocument(BaseModel):
    """All other names of a provider's models."""

    provider: str
    aliases: dict[str, str]
    added: list[str] = Field(description="Those that were not known before this request.")
    registry_seq: int = Field(description="From which change of the log on events are priced by them.")


class ModelDocument(BaseModel):
    """One model, as the card in force prices it. Amounts of USD are decimals in quotes, for as many as units say."""

    model_config = ConfigDict(extra="allow")

    provider: str
    model: str
    tier: str
    tier_credits: str = Field(description="What one node call lists at.")
    usd: dict[str, str] = Field(description="By unit.")
    credits: dict[str, str] = Field(description="What the same lists at, by unit.")
    own_key_credits: dict[str, str] | None = Field(
        description="What it costs with a key of one's own; null where the provider takes none."
    )
    aliases: list[str]


class OwnKeyDocument(BaseModel):
    """What a key of one's own makes of prices."""

    providers: list[str] = Field(description="Those that take one.")
    node_call_credits: str = Field(description="What one node call costs then, whatever the tier.")
    token_factor: str = Field(description="By which what tokens list at is multiplied then.")


class ModelsDocument(BaseModel):
    """Every model that has a price, by provider and name. Credits are decimals in quotes."""

    rate_card: str
    effective_from: str = Field(description="Since when the card is in force.")
    at: str
    usd_per_credit: str
    own_key: OwnKeyDocument
    units: dict[str, dict[str, Any]] = Field(description="For how many of each unit a price is, and what it lies in.")
    models: list[ModelDocument]


def aliases_document(view: AliasesView) -> AliasesDocument:
    """The names as they are answered."""
    return AliasesDocument(
        provider=view.aliases.provider,
        aliases=dict(view.aliases.aliases),
        added=list(view.added),
        registry_seq=view.seq,
    )


def models_document(found: Models) -> ModelsDocument:
    """The models as they are answered."""
    card = found.card
    return ModelsDocument(
        rate_card=card.card,
        effective_from=_utc(card.effective_from),
        at=_utc(found.at),
        usd_per_credit=format_exactly(card.usd_micros_per_credit, decimals=6),
        own_key=OwnKeyDocument(
            providers=sorted(card.own_key_providers),
            node_call_credits=_credits(card.own_key_node_call_mc),
            token_factor=format_ratio(card.own_key_token_factor),
        ),
        units={
            name: {"per": unit.per} | ({"in": unit.within} if unit.within else {})
            for name, unit in card.units.by_name.items()
        },
        models=[_model(model, card) for model in found.models],
    )


def _model(model: Model, card: RateCard) -> ModelDocument:
    price = model.price
    amounts = {name: _amounts(name, picos, card) for name, picos in price.prices.items()}
    own = model.provider in card.own_key_providers
    return ModelDocument(
        provider=model.provider,
        model=model.model,
        tier=price.tier,
        tier_credits=_credits(price.tier_mc),
        usd=_usd(price.prices, card.units),
        credits={name: _credits(each.list_mc) for name, each in amounts.items()},
        own_key_credits={name: _credits(each.charged_mc) for name, each in amounts.items()} if own else None,
        aliases=list(model.aliases),
        **_beside(price, card.units),
    )


def _beside(price: ModelPrice, units: Units) -> dict[str, Any]:
    """What is laid over the plain prices, as a card writes it; nothing where there is none."""
    said = {
        "bands": _bands(price.bands, units),
        "windows": [
            {
                "utc": window.spans,
                "weekdays": sorted(window.weekdays),
                "usd": _usd(window.prices, units),
            }
            for window in price.windows
        ],
        "variants": [_variant(variant, units) for variant in price.variants],
        "uplifts": [{"when": dict(each.when), "times": format_ratio(each.times)} for each in price.uplifts],
    }
    return {name: value for name, value in said.items() if value}


def _variant(variant: Variant, units: Units) -> dict[str, Any]:
    said = {"when": dict(variant.when), "usd": _usd(variant.prices, units)}
    return said | ({"bands": _bands(variant.bands, units)} if variant.bands else {})


def _bands(bands: tuple[Band, ...], units: Units) -> list[dict[str, Any]]:
    return [{"above_input_tokens": band.above_input_tokens, "usd": _usd(band.prices, units)} for band in bands]


def _amounts(unit: str, picos: int, card: RateCard) -> Amounts:
    """What as many of a unit as the card prices together list at, and cost with an own key."""
    return cost_to_mc(Ratio(picos * card.units.by_name[unit].per, 1), card, KeySource.BYOK)


def _credits(mc: int) -> str:
    return format_exactly(mc, decimals=6)


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _usd(prices: Prices, units: Units) -> Mapping[str, str]:
    """Pico-USD for one of each unit as USD for as many as the card prices together."""
    return {
        name: format_exactly(units.by_name[name].price_on_card(picos), decimals=6) for name, picos in prices.items()
    }
