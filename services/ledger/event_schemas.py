"""Usage events in the OpenAPI document, field by field: clients in any language are generated from it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field, TypeAdapter

from schemas.topics import BATCH_EVENTS_MAX
from schemas.usage_events import UsageMessage
from services.messages.cloudevents import BATCHED, STRUCTURED

USAGE_TYPES = ("application/json", STRUCTURED, BATCHED)
"""In which media types events may be handed in."""

_PLACE = "#/components/schemas/"
_EVENT, _BATCH = "UsageEvent", "UsageEventBatch"
_BOTH = {"anyOf": [{"$ref": _PLACE + _EVENT}, {"$ref": _PLACE + _BATCH}]}
_DISCRIMINATED = Annotated[UsageMessage, Field(discriminator="type")]
_TOGETHER = {"type": "array", "items": {"$ref": _PLACE + _EVENT}, "minItems": 1, "maxItems": BATCH_EVENTS_MAX}

REQUEST_BODY = {
    "required": True,
    "description": f"Also as {STRUCTURED} or {BATCHED}; in binary mode one event's data, and headers such as `ce-id`.",
    # One media type alone: of several, for which a request may be one or the other, generators make code that fails.
    "content": {"application/json": {"schema": _BOTH}},
}
"""What a request with usage events holds."""


def describe_events(app: FastAPI) -> None:
    """Let the document have the schemas that ``REQUEST_BODY`` refers to."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document["components"]["schemas"] |= _schemas()
        return document

    # As FastAPI's documentation has it.
    app.openapi = openapi  # type: ignore[method-assign]


def _schemas() -> dict[str, Any]:
    event = TypeAdapter[Any](_DISCRIMINATED).json_schema(ref_template=_PLACE + "{model}")
    parts: dict[str, Any] = event.pop("$defs")
    return parts | {_EVENT: event | {"title": _EVENT}, _BATCH: _TOGETHER | {"title": _BATCH}}
