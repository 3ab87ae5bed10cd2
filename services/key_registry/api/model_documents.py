"""What is asked and answered about models: their prices as the card in force has them, and their other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.fields import Id
from services.domain.credits import format_credits, format_exactly, format_ratio
from services.domain.directory import ModelAliases
from services.domain.model_prices import Band, ModelPrice, Prices, Units, Variant
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
    aliases: list[str]


class ModelsDocument(BaseModel):
    """Every model that has a price, by provider and name."""

    rate_card: str
    at: str
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
    units = found.units
    return ModelsDocument(
        rate_card=found.rate_card,
        at=found.at.isoformat().replace("+00:00", "Z"),
        units={
            name: {"per": unit.per} | ({"in": unit.within} if unit.within else {})
            for name, unit in units.by_name.items()
        },
        models=[_model(model, units) for model in found.models],
    )


def _model(model: Model, units: Units) -> ModelDocument:
    price = model.price
    return ModelDocument(
        provider=model.provider,
        model=model.model,
        tier=price.tier,
        tier_credits=format_credits(price.tier_mc).replace(",", ""),
        usd=_usd(price.prices, units),
        aliases=list(model.aliases),
        **_beside(price, units),
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


def _usd(prices: Prices, units: Units) -> Mapping[str, str]:
    """Pico-USD for one of each unit as USD for as many as the card prices together."""
    return {
        name: format_exactly(units.by_name[name].price_on_card(picos), decimals=6) for name, picos in prices.items()
    }
