"""Batches, pace, and the way of every row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest

from services.cli.usage.formats import TimeFormat
from services.cli.usage.mapping import EventBuilder, Mapped
from services.cli.usage.pacing import Pacer
from services.cli.usage.publication import Publication
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.sender import BatchSender, SendFailed
from services.cli.usage.sources import Lines, Row, RowReason, Unreadable, jsonl_rows
from services.cli.usage.times import Shift, time_reader
from services.messages.cloudevents import saying_type
from services.messages.usage_events import Rejection

START = datetime(2026, 11, 1, tzinfo=UTC)


class Future:
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def get(self, timeout: float | None = None) -> None:  # noqa: ARG002 - the producer's futures have it
        if self._error is not None:
            raise self._error


class RecordingProducer:
    def __init__(self, fail_at: int | None = None) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self._fail_at = fail_at

    def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Future:
        assert topic == "byok.usage-events"
        assert headers == [saying_type(value)]
        self.records.append((key, value))
        return Future(OSError("away") if len(self.records) == self._fail_at else None)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def sender(producer: RecordingProducer, batch: int, clock: Clock | None = None) -> BatchSender:
    return BatchSender(producer, batch, timeout_seconds=1, clock=clock or Clock())


def row(line: int, seconds: float = 0, org: str = "a", **data: Any) -> Row:
    event = {
        "specversion": "1.0",
        "type": "usage.tool_call.v1",
        "time": (START + timedelta(seconds=seconds)).isoformat(),
    }
    return Row(line, {**event, "data": {"org_id": org, "user_id": "u", "tool": "t", **data}})


def publication(rejected: RejectedRows, clock: Clock | None = None, now: datetime = START) -> Publication:
    builder = EventBuilder(
        Mapped(None),
        event_type=None,
        source="file:x",
        read_time=time_reader(TimeFormat.ISO, None),
        shift=Shift(None),
    )
    return Publication(builder, rejected, now=lambda: now, sleep=(clock or Clock()).sleep)


def test_batches_hold_events_of_one_organization_and_are_keyed_by_it() -> None:
    producer = RecordingProducer()
    batches = sender(producer, 2)
    for org, event in [("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"4")]:
        batches.add(org, event)
    batches.finish()
    assert producer.records == [(b"a", b"[1,3]"), (b"b", b"[2]"), (b"a", b"[4]")]
    assert (batches.events, batches.records) == (4, 3)


def test_batches_of_one_are_single_events() -> None:
    producer = RecordingProducer()
    batches = sender(producer, 1)
    batches.add("a", b"{}")
    batches.finish()
    assert producer.records == [(b"a", b"{}")]


def test_no_record_outgrows_the_broker() -> None:
    producer = RecordingProducer()
    batches = sender(producer, 1000)
    for _ in range(40):
        batches.add("a", b"x" * 100_000)
    batches.finish()
    assert max(len(value) for _, value in producer.records) < 1_000_000
    assert batches.events == 40


def test_little_waits_even_with_very_many_organizations() -> None:
    producer = RecordingProducer()
    batches = sender(producer, 100)
    for number in range(20_000):
        batches.add(f"org-{number}", b"1")
    assert len(producer.records) == 20_000


def test_an_unacknowledged_record_is_an_error_and_not_counted() -> None:
    batches = sender(RecordingProducer(fail_at=2), 1)
    for _ in range(3):
        batches.add("a", b"1")
    with pytest.raises(SendFailed, match="away"):
        batches.finish()
    assert batches.events == 1


@pytest.mark.parametrize("batch", [0, 1001])
def test_a_batch_has_bounds(batch: int) -> None:
    with pytest.raises(ValueError, match="1000"):
        sender(RecordingProducer(), batch)


def test_bad_rows_are_refused_by_line_and_field_and_the_good_ones_sent() -> None:
    producer, rejected = RecordingProducer(), RejectedRows()
    rows: list[Row | Unreadable] = [
        row(1),
        Unreadable(2, Rejection.of(RowReason.UNREADABLE_ROW, "is not CSV")),
        row(3, calls=0),
        row(4, tool=None),
        Row(5, {"time": START.isoformat()}),
        Row(6, {"time": START.isoformat(), "type": "usage.other.v9", "data": {}}),
        row(7),
    ]
    publication(rejected).run(rows, sender(producer, 100), None)
    assert [event["id"] for event in json.loads(producer.records[0][1])] == ["line-1", "line-7"]
    assert [(row.line, row.field) for row in rejected.shown] == [
        (2, ""),
        (3, "data.calls"),
        (4, "data.tool"),
        (5, "type"),
        (6, "type"),
    ]


def test_events_ahead_of_time_are_rejected_as_everywhere() -> None:
    producer, rejected = RecordingProducer(), RejectedRows()
    publication(rejected).run([row(1, 300), row(2, 301)], sender(producer, 100), None)
    assert rejected.shown == [(2, "time_in_future", "time", "is more than 5 minutes ahead")]
    assert [event["id"] for event in json.loads(producer.records[0][1])] == ["line-1"]


def test_an_event_of_a_paced_trace_is_ahead_of_time_only_if_it_is_when_its_turn_has_come() -> None:
    clock, rejected = Clock(), RejectedRows()
    running = publication(rejected, clock)
    running._now = lambda: START + timedelta(seconds=clock.now - 100)
    running.run([row(1, 0), row(2, 1_000)], sender(RecordingProducer(), 1, clock), Pacer(1, clock))
    assert (rejected.shown, clock.slept) == ([], [1_000.0])
    running.run([row(1, 2_000), row(2, 3_000)], sender(RecordingProducer(), 1, clock), Pacer(2, clock))
    assert [each.line for each in rejected.shown] == [1, 2]


def test_what_nobody_reads_is_passed_on_where_it_can_be_written() -> None:
    producer = RecordingProducer()
    deep = b"[" * 500 + b"]" * 500
    lines = [json.dumps(row(1).values).encode()[:-1] + b', "x": ' + value + b"}\n" for value in (b"[1]", deep)]
    publication(RejectedRows()).run(jsonl_rows(Lines(BytesIO(b"".join(lines)))), sender(producer, 1), None)
    first, second = (json.loads(value) for _, value in producer.records)
    assert first["x"] == [1]
    assert "x" not in second
    assert second["data"] == first["data"] | {"calls": 1, "succeeded": True}


def test_a_paced_trace_waits_for_its_events_and_holds_none_back() -> None:
    clock, producer = Clock(), RecordingProducer()
    rows = [row(1, 0), row(2, 0), row(3, 10), row(4, 10.1), row(5, 5)]
    publication(RejectedRows(), clock).run(rows, sender(producer, 100, clock), Pacer(10, clock))
    # Ten times faster; what is late is sent at once, and the tenth of a second is short enough to wait for company.
    assert clock.slept == [1.0, 0.01]
    assert [len(json.loads(value)) for _, value in producer.records] == [2, 3]


def test_a_key_in_the_wrong_place_is_masked_and_all_refusals_are_counted() -> None:
    rejected = RejectedRows()
    for line in range(25):
        rejected.add(line, Rejection.of(RowReason.UNREADABLE_ROW, "bad sk-abcdefghijklmnopqrst"))
    assert rejected.counts == {"unreadable_row": 25}
    assert len(rejected.shown) == 20
    assert "abcdefgh" not in rejected.shown[0].problem


def test_memory_is_bounded_by_streaming() -> None:
    """Rows are pulled one by one: when the n-th is asked for, all earlier full batches were sent."""
    producer = RecordingProducer()

    def rows() -> Iterator[Row]:
        for line in range(1, 1001):
            assert len(producer.records) == (line - 1) // 10
            yield row(line)

    publication(RejectedRows()).run(rows(), sender(producer, 10), None)
    assert len(producer.records) == 100
