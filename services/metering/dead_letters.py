"""Dead letters as rows: written with the batch that refused them, every key in them masked (CONTRACT section 7)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from services.domain.masking import mask_bytes, mask_text
from services.messages.usage_events import Refusal
from services.metering.pricing import Element

_LABEL_MAX = 256


class DeadLetter(NamedTuple):
    """One refused event, as it is kept."""

    partition: int
    offset: int
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


def dead_letter(element: Element, refusal: Refusal) -> DeadLetter:
    """The row for an element that was refused."""
    source = element.source
    payload, masked = mask_bytes(source)
    key, key_masked = (None, False) if element.record.key is None else mask_bytes(element.record.key)
    known = _known(source)
    return DeadLetter(
        partition=element.record.partition,
        offset=element.record.offset,
        source_index=element.source_index,
        reason=refusal.reason.value,
        detail=refusal.detail,
        org_id=known.get("org_id"),
        event_source=known.get("source"),
        event_id=known.get("id"),
        event_type=known.get("type"),
        record_key=key,
        payload=payload,
        masked=masked or key_masked,
    )


def _known(source: bytes) -> dict[str, str]:
    """What can be read of a refused event, so that it can be found again; nothing where nothing can."""
    try:
        raw = json.loads(source)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict):
        return {}
    data = raw.get("data")
    org_id = data.get("org_id") if isinstance(data, dict) else None
    labels = {"org_id": org_id, **{name: raw.get(name) for name in ("source", "id", "type")}}
    return {name: _label(value) for name, value in labels.items() if isinstance(value, str)}


def _label(value: Any) -> str:
    """Text that PostgreSQL can hold: no NUL, no lone surrogate, no key, and not endless."""
    text = mask_text(value.encode("utf-8", "replace").decode())
    # Masked before it is cut: what is left of a key that was cut has no shape any more.
    return text.replace("\x00", "�")[:_LABEL_MAX]
