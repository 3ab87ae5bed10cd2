"""What a record's headers say of it: attributes in binary mode, a trace, or why nobody can read it."""

from __future__ import annotations

from collections.abc import Iterable

from services.messages.cloudevents import of_record
from services.metering.booking.pricing import Record
from services.runtime.record_log import unreadable_because
from services.runtime.trace_context import trace_in


def read_headers(record: Record, headers: Iterable[tuple[str, bytes | None]] | None) -> Record:
    """The record with what its headers say."""
    if not headers:
        return record
    headers = tuple(headers)
    return record._replace(
        value=of_record(record.value, headers), unreadable=unreadable_because(headers), trace=trace_in(headers)
    )
