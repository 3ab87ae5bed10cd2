"""From a request's bytes to Kafka records: strict JSON, every element checked, nothing of a bad batch accepted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from schemas.topics import BATCH_EVENTS_MAX
from schemas.usage_events import EVENT_MODELS, UsageMessage
from services.ledger.refusals import Refusal

_ERRORS_SHOWN = 100
# Numbers and names stay text: only the places where elements begin and end are wanted.
_BOUNDARIES = json.JSONDecoder(parse_int=str, parse_float=str)
_WHITESPACE = " \t\n\r"


class UsageRecord(NamedTuple):
    """What becomes one Kafka record: events of one organization, as their JSON was sent."""

    org_id: str
    value: bytes
    events: int


def read_events(body: bytes) -> list[UsageMessage]:
    """The events in a request. Raises 400, 413 or 422 with the code of the first bad one, and all that is wrong."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "malformed_json", "The body is not JSON in UTF-8 (RFC 8259).") from None
    elements = parsed if isinstance(parsed, list) else [parsed]
    if not elements:
        raise Refusal(422, "invalid_event", "The batch has no events.")
    if len(elements) > BATCH_EVENTS_MAX:
        raise Refusal(413, "batch_too_large", f"A batch has at most {BATCH_EVENTS_MAX} events.")
    messages, errors = [], []
    for index, element in enumerate(elements):
        message, wrong = _read_event(index, element)
        messages += [] if message is None else [message]
        errors += wrong
    if errors:
        detail = "At least one event cannot be accepted, so none of the request was."
        raise Refusal(422, errors[0]["code"], detail, errors=errors[:_ERRORS_SHOWN])
    return messages


def _read_event(index: int, element: Any) -> tuple[UsageMessage | None, list[dict[str, Any]]]:
    def refused(code: str, field: str, detail: str) -> dict[str, Any]:
        return {"index": index, "field": field, "code": code, "detail": detail}

    if not isinstance(element, dict):
        return None, [refused("invalid_event", "", "must be a JSON object")]
    event_type = element.get("type")
    if not isinstance(event_type, str):
        return None, [refused("invalid_event", "type", "must be a string")]
    model = EVENT_MODELS.get(event_type)
    if model is None:
        return None, [refused("unsupported_type", "type", "is not an event type that is metered")]
    try:
        return model.model_validate(element), []
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        return None, [refused("invalid_event", _place(item["loc"]), _message(item)) for item in problems]


def _place(loc: tuple[int | str, ...]) -> str:
    # pydantic puts the tag of the claim's union into the path, where no field has that name.
    return ".".join(str(part) for index, part in enumerate(loc) if not (index == 2 and loc[1] == "credential"))


def _message(problem: Any) -> str:
    # pydantic's own sentence about a wrong tag would repeat what was sent.
    if problem["type"] == "union_tag_invalid":
        return "source: must be 'byok' or 'platform'"
    message: str = problem["msg"].removeprefix("Value error, ")
    return message


def without_unknown_fields(messages: list[UsageMessage]) -> bytes:
    """The same events with nothing in them but what is read; JSON, an array."""
    known = [message.model_dump(mode="json", exclude_unset=True) for message in messages]
    return orjson.dumps(known)


def pack(body: bytes, messages: list[UsageMessage], *, bytes_max: int) -> list[UsageRecord]:
    """One record for each organization, its events in their order; more where one would exceed ``bytes_max``.

    A request of one organization that fits goes as it came; else each event keeps the bytes it was sent in. Raises
    422 ``invalid_event`` for a single event that is too large.
    """
    organizations = {message.data.org_id for message in messages}
    if len(organizations) == 1 and len(body) <= bytes_max:
        return [UsageRecord(organizations.pop(), body, len(messages))]
    elements = _split(body)
    too_large = [index for index, element in enumerate(elements) if len(element) + 2 > bytes_max]
    if too_large:
        errors = [
            {"index": index, "field": "", "code": "invalid_event", "detail": f"must be at most {bytes_max - 2} bytes"}
            for index in too_large
        ]
        raise Refusal(422, "invalid_event", "An event is too large for one record.", errors=errors)
    by_organization: dict[str, list[bytes]] = {}
    for message, element in zip(messages, elements, strict=True):
        by_organization.setdefault(message.data.org_id, []).append(element)
    return [record for org_id, own in by_organization.items() for record in _records(org_id, own, bytes_max)]


def _records(org_id: str, elements: Iterable[bytes], bytes_max: int) -> Iterable[UsageRecord]:
    chunk: list[bytes] = []
    # The two brackets, and a comma for each element.
    size = 2
    for element in elements:
        if chunk and size + len(element) + 1 > bytes_max:
            yield _record(org_id, chunk)
            chunk, size = [], 2
        chunk.append(element)
        size += len(element) + 1
    yield _record(org_id, chunk)


def _record(org_id: str, elements: list[bytes]) -> UsageRecord:
    return UsageRecord(org_id, b"[" + b",".join(elements) + b"]", len(elements))


def _split(body: bytes) -> list[bytes]:
    """The bytes of each event; the body is known to be JSON."""
    text = body.decode()
    start = _skip(text, 0)
    if text[start] != "[":
        return [body]
    elements = []
    index = _skip(text, start + 1)
    try:
        while text[index] != "]":
            _, end = _BOUNDARIES.raw_decode(text, index)
            elements.append(text[index:end].encode())
            index = _skip(text, end)
            if text[index] == ",":
                index = _skip(text, index + 1)
    except RecursionError:
        raise Refusal(400, "malformed_json", "The JSON is nested too deeply.") from None
    return elements


def _skip(text: str, index: int) -> int:
    while index < len(text) and text[index] in _WHITESPACE:
        index += 1
    return index
