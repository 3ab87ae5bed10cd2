"""Rate cards as people write them (docs/how-to/rate-cards.md), of which the body is what the registry log carries.

Whoever publishes a card refuses every place that is not named here. Whoever reads one that is published ignores it: a
card is never edited, and an earlier release may have let it through.

A body says by which schema it is written. Both are good, now and later: by schema 1 a model has three prices for
tokens; by schema 2 it has them by unit, and other prices where a provider bills otherwise.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from schemas.card_values import (
    Factor,
    Micros,
    Named,
    OwnKeyMicros,
    Parts,
    PositiveMicros,
    Prices,
    Rising,
    ScopeOrder,
    Span,
    Tier,
    Times,
    When,
    Whole,
)
from schemas.fields import Id, Time, Tokens

SCHEMAS = (1, 2)
"""By which a body can be written. Another number is another set of places: then this module reads none of it."""


def _known_schema(number: int) -> int:
    if number != SCHEMAS[0]:
        known = " and ".join(map(str, SCHEMAS))
        raise ValueError(f"is not a schema that this release knows; it knows {known}")
    return number


SchemaNumber = Annotated[int, AfterValidator(_known_schema), WithJsonSchema({"const": SCHEMAS[0]})]


class Places(BaseModel):
    """Something on a card whose every place has a name here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelLine(Places):
    """What one model costs, by schema 1."""

    tier: Tier = Field(description="One of the card's tiers: what a node call lists at.")
    input_usd_per_mtok: Micros = Field(description="USD per million input tokens that are not cached.")
    cached_input_usd_per_mtok: Micros = Field(description="USD per million cached input tokens.")
    output_usd_per_mtok: Micros = Field(description="USD per million output tokens.")


class BillingUnit(Places):
    """Something that a provider bills, and for how many of it the card says the price; or what it is a part of."""

    per: Literal[1, 1_000, 1_000_000] = Field(1_000_000, description="A million for tokens: uplifts apply to them.")
    in_: Whole | None = Field(
        None, alias="in", description="The unit whose count holds this one's. It is billed alike."
    )

    @model_validator(mode="after")
    def _is_whole_or_part(self) -> BillingUnit:
        if self.in_ is not None and "per" in self.model_fields_set:
            raise ValueError("per stands at the unit that it lies in")
        return self


class Band(Places):
    """Other prices for all of a request whose input is longer."""

    above_input_tokens: Tokens
    usd: Prices


class Window(Places):
    """Other prices at some times of the week, in UTC."""

    utc: Annotated[list[Span], Field(min_length=1)]
    weekdays: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1)] = Field(
        [1, 2, 3, 4, 5, 6, 7], description="1 is Monday."
    )
    usd: Prices


class Variant(Places):
    """Other prices for what was served in another way."""

    when: When
    usd: Prices
    bands: Annotated[list[Band], Rising] = []


class Uplift(Places):
    """A factor on all tokens."""

    when: When
    times: Times


class ModelPrices(Places):
    """What one model costs, by schema 2. What is laid over other prices leaves those that it does not name."""

    tier: Tier = Field(description="One of the card's tiers: what a node call lists at.")
    usd: Prices = Field(description="By unit.")
    windows: list[Window] = Field([], description="The first that holds the event's time is laid over usd.")
    bands: Annotated[list[Band], Rising] = Field([], description="Over them the highest that the input exceeds.")
    variants: list[Variant] = Field([], description="Over them the first whose conditions are met.")
    uplifts: list[Uplift] = Field([], description="All whose conditions are met, on tokens.")


class OwnKey(Places):
    """Who takes own keys, and what is charged with one."""

    providers: list[str] = Field(description="The providers that take own keys.")
    scope_order: ScopeOrder = Field(description="Which key is looked for first, below the organization's.")
    node_call_credits: OwnKeyMicros = Field(description="Credits per node call; no more than any tier.")
    token_factor: Factor = Field(description="The part of the list price that is charged for tokens.")


class ToolCall(Places):
    """What a succeeded call of a tool costs."""

    credits: Micros = Field(description="Credits for every tool without a line of its own.")
    tools: dict[str, Micros] = Field(description="Credits by tool.")


class WorkflowRun(Places):
    """What a run of a workflow costs."""

    credits: Micros = Field(description="Credits per run.")
    charge_subflows: bool = Field(description="Whether a run that another run started costs as much; else nothing.")


class _Body(Places):
    usd_per_credit: PositiveMicros = Field(description="What one credit is in USD.")
    tiers: dict[str, Micros] = Field(description="Credits per node call, by tier.")
    own_key: OwnKey
    tool_call: ToolCall
    workflow_run: WorkflowRun


class RateCardBody(_Body):
    """All prices, complete: what is not on it has no price."""

    # Made by read_body or read_document alone, which tell one place what stands in the others.
    schema_: SchemaNumber = Field(SCHEMAS[0], alias="schema", description="By which schema the body is written.")
    models: dict[str, dict[str, ModelLine]] = Field(description="By provider and model.")


class RateCardBody2(_Body):
    """All prices, complete, by unit: what is not on it has no price."""

    schema_: Literal[2] = Field(alias="schema", description="By which schema the body is written.")
    units: dict[Id, BillingUnit] = Field(description="What can be billed: input and output, and what else there is.")
    inherit: Parts = Field([], description="Units that are billed as what they lie in, where a model has no price.")
    neutral: dict[Id, list[Id]] = Field({}, description="Values of conditions that change no price.")
    models: dict[str, dict[str, ModelPrices]] = Field(description="By provider and model.")


class _Document(Places):
    card: Id = Field(description="Its name, for ever.")
    effective_from: Time = Field(description="From when on it is in force, until the next one.")


class RateCardDocument(_Document):
    """A rate card in a file. Once it is published it is never edited: prices change by a new card."""

    body: RateCardBody


class RateCardDocument2(_Document):
    """A rate card in a file, by schema 2. Once it is published it is never edited: prices change by a new card."""

    body: RateCardBody2


AnyBody = RateCardBody | RateCardBody2
AnyDocument = RateCardDocument | RateCardDocument2
DOCUMENT: TypeAdapter[AnyDocument] = TypeAdapter(AnyDocument)
"""Only for the exported schema: ``read_document`` says of one schema what is wrong."""


def body_model(body: Any) -> type[AnyBody]:
    """By what the body is to be read: it says so itself."""
    return RateCardBody2 if _is_second(body) else RateCardBody


def document_model(document: Any) -> type[AnyDocument]:
    """By what a card in a file is to be read."""
    return RateCardDocument2 if _is_second(_body_of(document)) else RateCardDocument


def read_document(document: Any) -> AnyDocument:
    """A card that is to be published. Raises ValidationError with all that is wrong; unknown places are."""
    return document_model(document).model_validate(document, context=Named.of(_body_of(document)))


def read_body(body: Any, *, unknown: Literal["forbid", "ignore"]) -> AnyBody:
    """The body of a card. Raises ValidationError with all that is wrong with it."""
    return body_model(body).model_validate(body, context=Named.of(body), extra=unknown)


def _is_second(body: Any) -> bool:
    number = body.get("schema") if isinstance(body, dict) else None
    return type(number) is int and number == SCHEMAS[1]


def _body_of(document: Any) -> Any:
    return document.get("body") if isinstance(document, dict) else None
