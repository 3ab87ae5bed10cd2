"""What log lines name: places and traces of records, and of dead letters no more than somebody can read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import structlog

from schemas.dead_letters import Reason
from services.messages.usage_events import Rejection
from services.metering.booking.dead_letters import DeadLetter, dead_letter
from services.metering.booking.pricing import ReadRecord, Record, read_elements
from services.metering.booking.told import DeadLetterLines, identity_of, places_of, traces_of
from services.runtime.trace_context import TraceContext, new_trace
from tests.factories import wire

NOW = datetime(2026, 11, 20, tzinfo=UTC)
KEY = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345"


def read(partition: int, offset: int, trace: TraceContext | None = None, **changes: Any) -> ReadRecord:
    value = json.dumps(wire() | changes).encode()
    return read_elements(Record(partition, offset, b"org-1", value, 0.0, trace=trace), NOW)


def letter(reason: Reason = Reason.UNPRICED_MODEL, **changes: Any) -> DeadLetter:
    (element,) = read(3, 7, new_trace(), **changes).elements
    return dead_letter(element, Rejection.of(reason, "why"))


def test_records_are_named_by_partition_and_first_and_last_offset() -> None:
    one, own = new_trace(), new_trace()
    records = [read(1, 5, one), read(0, 9), read(1, 6, one, traceparent=str(own)), read(1, 8)]
    told = places_of(records)
    assert (told["topic"], str(told["offsets"])) == ("byok.usage-events", "0:9-9 1:5-8")
    assert traces_of(records) == [one, own]
    assert str(told["trace_ids"]) == f"{one.trace_id} {own.trace_id}"


def test_an_event_is_named_by_identity_and_place_and_one_that_is_none_by_its_place() -> None:
    (element,) = read(2, 4).elements
    place = {"partition": 2, "offset": 4, "index": 0}
    event = element.event
    assert event is not None
    assert identity_of(element) == place | {"organization": event.org_id, "source": event.source, "id": event.id}
    (none,) = read_elements(Record(2, 4, None, b"junk", 0.0), NOW).elements
    assert identity_of(none) == place


def test_a_line_has_what_is_known_of_the_letter_and_its_events_own_trace() -> None:
    own = new_trace()
    with structlog.testing.capture_logs() as lines:
        DeadLetterLines().write([letter(id=f"{KEY}x", traceparent=str(own)), letter(traceparent="none")])
    first, second = lines
    assert (first["organization"], first["source"], first["id"]) == ("org-1", wire()["source"], "[masked key]")
    assert (first["partition"], first["offset"], first["index"]) == (3, 7, 0)
    assert (first["reason"], first["detail"], first["trace_id"]) == ("unpriced_model", "why", own.trace_id)
    assert second["trace_id"] not in ("none", own.trace_id)


def test_of_one_reason_fifty_are_written_and_then_how_many_were_not() -> None:
    written = DeadLetterLines()
    with structlog.testing.capture_logs() as lines:
        written.write([letter()] * 200)
        written.write([letter(Reason.IDENTITY_CONFLICT)])
    assert [line["reason"] for line in lines].count("unpriced_model") < 60
    assert lines[-1]["reason"] == "identity_conflict"
    written._buckets._clock = lambda: float("inf")
    with structlog.testing.capture_logs() as later:
        written.write([letter()])
    assert later[0]["left_out"] == 200 - (len(lines) - 1)
