"""Dead letters: the bytes of refused events; the headers say why and where (docs/contract.md, sections 1 and 7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

# A header is text: a number stands in it in digits.
_Number = Annotated[int, Field(ge=0), WithJsonSchema({"type": "string", "pattern": "^[0-9]+$"})]


class Reason(StrEnum):
    """Why an event was refused, in order of precedence: the first that holds is the one given."""

    MALFORMED_JSON = "malformed_json"
    BATCH_TOO_LARGE = "batch_too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    INVALID_EVENT = "invalid_event"
    TIME_IN_FUTURE = "time_in_future"
    NO_RATE_CARD = "no_rate_card"
    UNPRICED_MODEL = "unpriced_model"
    UNPRICED_UNIT = "unpriced_unit"
    UNPRICED_CONDITION = "unpriced_condition"
    IDENTITY_CONFLICT = "identity_conflict"


FOR_WANT_OF_A_PRICE = frozenset(
    {Reason.NO_RATE_CARD, Reason.UNPRICED_MODEL, Reason.UNPRICED_UNIT, Reason.UNPRICED_CONDITION}
)
"""What heals when a rate card, or another name of a model, is published."""


class DeadLetterHeaders(BaseModel):
    """The headers of a record of ``byok.usage-dead-letters``, each the UTF-8 text of its value."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    reason: Reason
    detail: str = Field(description="One sentence; for invalid_event it names the field.")
    source_topic: str = Field(alias="source-topic")
    source_partition: _Number = Field(alias="source-partition")
    source_offset: _Number = Field(alias="source-offset")
    source_index: _Number = Field(alias="source-index", description="The element of a batch; 0 for a single event.")
    failed_at: AwareDatetime = Field(alias="failed-at")
    masked: str | None = Field(None, description="'true' where something with the shape of a key was masked.")
