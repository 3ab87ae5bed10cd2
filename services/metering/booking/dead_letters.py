"""Dead letters as rows: written with the batch that refused them, all keys masked (docs/contract.md, section 7)."""

from __future__ import annotations

from typing import Any, NamedTuple

from schemas.topics import MESSAGE_BYTES_MAX
from services.domain.masking import mask_bytes, mask_text
from services.domain.usage import UsageEvent
from services.messages.json_bytes import MalformedJsonError, decode
from services.messages.usage_events import RECORD_BYTES_MAX, Rejection, known_fields
from services.metering.booking.pricing import Element
from services.metering.dead_letters.share import Origin
from services.runtime.trace_context import TRACEPARENT, TraceContext, read_traceparent

PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX
"""How much of a refused event is kept: all that fits into a record of the topic that the letter is copied to."""

_RECORD_KEY_BYTES_MAX = 1_024
_LABEL_MAX = 256
# A key that is cut in two has no shape any more: so much is taken off, that none of it is left.
_SHAPELESS_BYTES = 512


class DeadLetter(NamedTuple):
    """One refused event, as it is kept."""

    partition: int
    source_offset: int
    source_index: int
    reason: str
    detail: str
    org_id: str | None
    event_source: str | None
    event_id: str | None
    event_type: str | None
    record_key: bytes | None
    payload: bytes
    masked: bool
    whole_bytes: int | None
    """How many bytes were refused, where ``payload`` is only their beginning."""
    event: bytes | None
    """The known fields of a valid event whose ``payload`` is not what was sent: what a replay sends. Never shown, for
    its ids are as opaque as a key."""
    trace: TraceContext | None = None
    """The trace that the event names, else its record; for logs."""

    @property
    def origin(self) -> Origin:
        """Whose it is. Where nothing could be read, the key of its record names the organization."""
        key = None if self.record_key is None else self.record_key.decode(errors="replace")[:_LABEL_MAX]
        return Origin(self.org_id or key, self.event_source)


def dead_letter(element: Element, rejection: Rejection) -> DeadLetter:
    """The row for an element that was refused."""
    source = element.source
    payload, payload_masked, whole_bytes = _kept(source, PAYLOAD_BYTES_MAX)
    key, key_masked, _ = _kept(element.record.key or b"", _RECORD_KEY_BYTES_MAX)
    masked = payload_masked or key_masked
    known = _known(source)
    return DeadLetter(
        partition=element.record.partition,
        source_offset=element.record.offset,
        source_index=element.source_index,
        reason=rejection.reason.value,
        detail=rejection.detail,
        org_id=known.get("org_id"),
        event_source=known.get("source"),
        event_id=known.get("id"),
        event_type=known.get("type"),
        record_key=None if element.record.key is None else key,
        payload=payload,
        masked=masked,
        whole_bytes=whole_bytes,
        event=_for_replay(element.event) if masked or whole_bytes is not None else None,
        trace=read_traceparent(known.get(TRACEPARENT)) or element.record.trace,
    )


def _kept(source: bytes, bytes_max: int) -> tuple[bytes, bool, int | None]:
    """What is kept, whether something in it was masked, and how long the whole was where this is not all of it."""
    if len(source) <= bytes_max:
        return *mask_bytes(source), None
    beginning, masked = mask_bytes(source[:bytes_max])
    return beginning[:-_SHAPELESS_BYTES], masked, len(source)


def _for_replay(event: UsageEvent | None) -> bytes | None:
    """The event, where it is one; a key in the place of a model is no model that a card will ever know."""
    if event is None or mask_text(f"{event.provider} {event.model}") != f"{event.provider} {event.model}":
        return None
    return known_fields(event)


def _known(source: bytes) -> dict[str, str]:
    """What can be read of a refused event, so that it can be found again; nothing where nothing can."""
    if len(source) > RECORD_BYTES_MAX:
        return {}
    try:
        raw = decode(source)
    except MalformedJsonError:
        return {}
    if not isinstance(raw, dict):
        return {}
    data = raw.get("data")
    org_id = data.get("org_id") if isinstance(data, dict) else None
    labels = {"org_id": org_id, **{name: raw.get(name) for name in ("source", "id", "type", TRACEPARENT)}}
    return {name: _label(value) for name, value in labels.items() if isinstance(value, str)}


def _label(value: Any) -> str:
    """Text that PostgreSQL can hold: no NUL, no lone surrogate, no key, and not endless."""
    text = mask_text(value.encode("utf-8", "replace").decode())
    # Masked before it is cut: what is left of a key that was cut has no shape any more.
    return text.replace("\x00", "�")[:_LABEL_MAX]
