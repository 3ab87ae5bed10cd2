"""Rate cards as people write them (docs/how-to/rate-cards.md), of which the body is what the registry log carries.

Whoever publishes a card refuses every place that is not named here. Whoever reads one that is published ignores it: a
card is never edited, and an earlier release may have let it through.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from schemas.fields import Id, Time

SCHEMA = 1
"""What a body is written by. Another number is another set of places: then this module reads none of it."""

_MICRO = 1_000_000
_PRICE_MAX = 1_000_000
# No exponents, and few enough digits for Decimal to keep all of them when a number is scaled.
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,15})?")


class _Tiers(NamedTuple):
    """What the places of a body have to know of its tiers, also where other places are wrong."""

    names: frozenset[str] | None
    """None where the body has no object of tiers: that is said once, and not of every model."""
    lowest: int | None
    """Millionths of a credit; None where none can be read."""

    @classmethod
    def of(cls, body: Any) -> _Tiers:
        found = body.get("tiers") if isinstance(body, dict) else None
        if not isinstance(found, dict):
            return cls(None, None)
        amounts = [amount for value in found.values() if (amount := _micros_or_none(value)) is not None]
        return cls(frozenset(found), min(amounts, default=None))


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


def _raises_no_charge(micros: int, info: ValidationInfo[_Tiers]) -> int:
    if info.context.lowest is not None and micros > info.context.lowest:
        raise ValueError("exceeds a tier, so an own key would raise a charge")
    return micros


def _factor(value: Any) -> Decimal:
    factor = _decimal(value)
    if factor > 1:
        raise ValueError("must not exceed 1, or an own key would raise a charge")
    return factor


def _on_the_card(name: Any, info: ValidationInfo[_Tiers]) -> Any:
    names = info.context.names
    if names is not None and not (isinstance(name, str) and name in names):
        raise ValueError(f"{name!r} is not one of the card's tiers")
    return name


def _each_once(names: list[str]) -> list[str]:
    if sorted(names) != ["personal", "team"]:
        raise ValueError("must name team and personal, each once")
    return names


def _known_schema(number: int) -> int:
    if number != SCHEMA:
        raise ValueError(f"is not a schema that this release knows; it knows {SCHEMA}")
    return number


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
SchemaNumber = Annotated[int, AfterValidator(_known_schema), WithJsonSchema({"const": SCHEMA})]


class _Places(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelLine(_Places):
    """What one model costs."""

    tier: Tier = Field(description="One of the card's tiers: what a node call lists at.")
    input_usd_per_mtok: Micros = Field(description="USD per million input tokens that are not cached.")
    cached_input_usd_per_mtok: Micros = Field(description="USD per million cached input tokens.")
    output_usd_per_mtok: Micros = Field(description="USD per million output tokens.")


class OwnKey(_Places):
    """Who takes own keys, and what is charged with one."""

    providers: list[str] = Field(description="The providers that take own keys.")
    scope_order: ScopeOrder = Field(description="Which key is looked for first, below the organization's.")
    node_call_credits: OwnKeyMicros = Field(description="Credits per node call; no more than any tier.")
    token_factor: Factor = Field(description="The part of the list price that is charged for tokens.")


class ToolCall(_Places):
    """What a succeeded call of a tool costs."""

    credits: Micros = Field(description="Credits for every tool without a line of its own.")
    tools: dict[str, Micros] = Field(description="Credits by tool.")


class WorkflowRun(_Places):
    """What a run of a workflow costs."""

    credits: Micros = Field(description="Credits per run.")
    charge_subflows: bool = Field(description="Whether a run that another run started costs as much; else nothing.")


class RateCardBody(_Places):
    """All prices, complete: what is not on it has no price."""

    # Made by read_body or read_document alone, which tell one place what stands in the others.
    schema_: SchemaNumber = Field(SCHEMA, alias="schema", description="By which schema the body is written.")
    usd_per_credit: PositiveMicros = Field(description="What one credit is in USD.")
    tiers: dict[str, Micros] = Field(description="Credits per node call, by tier.")
    own_key: OwnKey
    tool_call: ToolCall
    workflow_run: WorkflowRun
    models: dict[str, dict[str, ModelLine]] = Field(description="By provider and model.")


class RateCardDocument(_Places):
    """A rate card in a file. Once it is published it is never edited: prices change by a new card."""

    card: Id = Field(description="Its name, for ever.")
    effective_from: Time = Field(description="From when on it is in force, until the next one.")
    body: RateCardBody


def read_document(document: Any) -> RateCardDocument:
    """A card that is to be published. Raises ValidationError with all that is wrong; unknown places are."""
    context = _Tiers.of(document.get("body") if isinstance(document, dict) else None)
    return RateCardDocument.model_validate(document, context=context)


def read_body(body: Any, *, unknown: Literal["forbid", "ignore"]) -> RateCardBody:
    """The body of a card. Raises ValidationError with all that is wrong with it."""
    return RateCardBody.model_validate(body, context=_Tiers.of(body), extra=unknown)
