"""From the body of a rate card to what the core prices with, and what of it is wrong, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal, get_args

from pydantic import ValidationError

from schemas.rate_card import (
    AnyBody,
    AnyDocument,
    Band,
    ModelLine,
    ModelPrices,
    RateCardBody,
    Window,
    body_model,
    document_model,
    read_body,
    read_document,
)
from services.domain import model_prices
from services.domain.credits import Ratio
from services.domain.faults import Fault, did_you_mean
from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, ModelPrice, Unit, Units
from services.domain.rate_card import InvalidRateCard, RateCard, require_amounts_fit
from services.domain.scope import ScopeType


def read_rate_card(
    card: str, effective_from: datetime, body: Any, *, unknown: Literal["forbid", "ignore"] = "ignore"
) -> RateCard:
    """The card that is published under this name, from this time on (UTC). Raises InvalidRateCard naming every place.

    Places that we do not know count for nothing: such a card was published by another release, and is not edited.
    """
    try:
        read = read_body(body, unknown=unknown)
    except ValidationError as error:
        raise InvalidRateCard(*_faults(error, body_model(body))) from None
    units = _units(read)
    return RateCard(
        card=card,
        effective_from=effective_from,
        usd_micros_per_credit=read.usd_per_credit,
        own_key_providers=frozenset(read.own_key.providers),
        scope_order=tuple(map(ScopeType, read.own_key.scope_order)),
        own_key_node_call_mc=read.own_key.node_call_credits,
        own_key_token_factor=Ratio(*read.own_key.token_factor.as_integer_ratio()),
        tool_call_mc=read.tool_call.credits,
        tool_mc=read.tool_call.tools,
        workflow_run_mc=read.workflow_run.credits,
        charge_subflows=read.workflow_run.charge_subflows,
        units=units,
        models=_models(read, units),
    )


def _units(body: AnyBody) -> Units:
    if isinstance(body, RateCardBody):
        return model_prices.UNITS_OF_SCHEMA_1
    return Units.of(
        {name: Unit(body.units[unit.in_ or name].per, unit.in_) for name, unit in body.units.items()},
        frozenset(body.inherit),
        {name: frozenset(values) for name, values in body.neutral.items()},
    )


def _models(body: AnyBody, units: Units) -> dict[tuple[str, str], ModelPrice]:
    models: Mapping[str, Mapping[str, ModelLine | ModelPrices]] = body.models
    return {
        (provider, model): _model(line, body.tiers[line.tier], units)
        for provider, lines in models.items()
        for model, line in lines.items()
    }


def _model(line: ModelLine | ModelPrices, tier_mc: int, units: Units) -> ModelPrice:
    if isinstance(line, ModelLine):
        prices = {
            INPUT: line.input_usd_per_mtok,
            CACHE_READ: line.cached_input_usd_per_mtok,
            OUTPUT: line.output_usd_per_mtok,
        }
        return ModelPrice(line.tier, tier_mc, prices)
    return ModelPrice(
        tier=line.tier,
        tier_mc=tier_mc,
        prices=_prices(line.usd, units),
        bands=_bands(line.bands, units),
        windows=tuple(_window(window, units) for window in line.windows),
        variants=tuple(
            model_prices.Variant(each.when, _prices(each.usd, units), _bands(each.bands, units))
            for each in line.variants
        ),
        uplifts=tuple(model_prices.Uplift(each.when, Ratio(*each.times.as_integer_ratio())) for each in line.uplifts),
    )


def _prices(usd: Mapping[str, int], units: Units) -> dict[str, int]:
    """Micro-USD for ``per`` of each unit as pico-USD for one; of a part the price is for as many as of the whole."""
    return {name: units.by_name[name].price_of_one(micros) for name, micros in usd.items()}


def _bands(bands: Sequence[Band], units: Units) -> tuple[model_prices.Band, ...]:
    return tuple(model_prices.Band(band.above_input_tokens, _prices(band.usd, units)) for band in bands)


def _window(window: Window, units: Units) -> model_prices.Window:
    spans = tuple((_minute(span[:5]), _minute(span[6:])) for span in window.utc)
    return model_prices.Window(frozenset(window.weekdays), spans, _prices(window.usd, units))


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def publishable(card: str, effective_from: datetime, body: Any) -> RateCard:
    """The card, if it may be published: it has no place that we do not know, and what it prices fits into the ledger.

    Raises InvalidRateCard naming every place; whether amounts fit is looked at once all of them can be read.
    """
    read = read_rate_card(card, effective_from, body, unknown="forbid")
    require_amounts_fit(read)
    return read


def read_new_card(document: Any) -> AnyDocument:
    """A card in a file, as JSON says it. Raises InvalidRateCard naming every place in the file, unknown ones too."""
    try:
        return read_document(document)
    except ValidationError as error:
        raise InvalidRateCard(*_faults(error, document_model(document))) from None


def _faults(error: ValidationError, whole: type[AnyBody | AnyDocument]) -> list[Fault]:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    faults = [Fault(".".join(map(str, problem["loc"])), _sentence(problem, whole)) for problem in problems]
    of_schema = [fault for fault in faults if fault.field in _SCHEMA]
    # By another schema there are other places: what is said of these would not be true.
    return [*(fault for fault in faults if fault.field in _OUTSIDE), *of_schema] if of_schema else faults


def _sentence(problem: Any, whole: type[AnyBody | AnyDocument]) -> str:
    if problem["type"] == "extra_forbidden":
        *above, name = problem["loc"]
        near = get_close_matches(name, _names_in(whole, above), n=1)
        return "is no place of a rate card" + did_you_mean(near)
    said: str = problem["msg"]
    return _SENTENCES.get(problem["type"], said.removeprefix("Value error, "))


def _names_in(whole: Any, path: Sequence[str]) -> list[str]:
    """What there may be at ``path``, where an object has names of its own."""
    kind = whole
    for name in path:
        kind = kind.model_fields[name].annotation if hasattr(kind, "model_fields") else get_args(kind)[-1]
    return [field.alias or name for name, field in kind.model_fields.items()]


_SCHEMA = ("schema", "body.schema")
_OUTSIDE = ("card", "effective_from")
_SENTENCES = {
    "missing": "is missing",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list of strings",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
}
