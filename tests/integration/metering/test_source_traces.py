"""The trace of what is booked is kept beside it, and makes no event another."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
import structlog

from services.runtime.trace_context import TraceContext, new_trace
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, node_call, publish
from tests.patience import PATIENCE_SECONDS

KEPT = "SELECT source_offset, source_index, traceparent FROM ledger.source_trace ORDER BY 1, 2"


def booked(ledger: Ledger, broker: str, topic: str, *of: tuple[object, TraceContext | None]) -> list[Any]:
    """Book the values, each a record with a trace; the offsets."""

    async def test() -> list[Any]:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        values, traces = zip(*of, strict=True)
        records = publish(broker, topic, 0, *values)
        try:
            await worker.book([each._replace(trace=trace) for each, trace in zip(records, traces, strict=True)])
        finally:
            await worker.stop()
        return [record.offset for record in records]

    return asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def kept(ledger: Ledger) -> list[tuple[int, int, str]]:
    return [(row["source_offset"], row["source_index"], row["traceparent"]) for row in ledger.rows(KEPT)]


def test_a_record_is_kept_once_and_an_events_own_trace_beside_it(ledger: Ledger, broker: str, topic: str) -> None:
    of_record, own = new_trace(), TraceContext("ab" * 16, "cd" * 8, sampled=True)
    batch = [node_call("a"), node_call("b", traceparent=str(own)), node_call("c", traceparent="none"), node_call("d")]
    first, second = booked(ledger, broker, topic, (batch, of_record), (node_call("e", traceparent=17), None))
    assert second == first + 1
    assert kept(ledger) == [(first, -1, str(of_record)), (first, 1, str(own))]
    assert len(ledger.entries()) == 5


def test_sent_again_within_another_trace_it_is_the_same_event(ledger: Ledger, broker: str, topic: str) -> None:
    first, again = new_trace(), new_trace()
    event = node_call("a", traceparent=str(first))
    offset, _ = booked(ledger, broker, topic, (event, None), (node_call("a", traceparent=str(again)), again))
    covered = ledger.rows("SELECT sum(recorded) AS recorded, sum(duplicates) AS twice FROM ledger.covered_range")
    assert [(int(row["recorded"]), int(row["twice"])) for row in covered] == [(1, 1)]
    assert ledger.rows("SELECT * FROM ledger.dead_letter") == []
    assert kept(ledger) == [(offset, 0, str(first))]


def test_where_none_is_named_nothing_is_kept(ledger: Ledger, broker: str, topic: str) -> None:
    booked(ledger, broker, topic, (node_call("a"), None), ([node_call("b")], None))
    assert kept(ledger) == []


def test_what_is_kept_is_never_changed(ledger: Ledger, broker: str, topic: str) -> None:
    booked(ledger, broker, topic, (node_call("a"), new_trace()))
    for statement in ("UPDATE ledger.source_trace SET source_index = 0", "DELETE FROM ledger.source_trace"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            ledger.execute(statement)


def test_what_fails_names_the_records_it_is_about(ledger: Ledger, broker: str, topic: str) -> None:
    """A batch that the database refuses for an event, and one for which it is away."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        ledger.execute("ALTER TABLE ledger.entry ADD CONSTRAINT none_of_these CHECK (event_id <> 'poison')")
        trace = new_trace()
        booked(ledger, broker, topic, ([node_call("a"), node_call("poison")], trace), (node_call("b"), trace))
    (refused,) = [line for line in lines if line["event"] == "the database refuses events for their data"]
    assert str(refused["offsets"]) == "0:0-1"
    assert str(refused["trace_ids"]) == trace.trace_id
    first = refused["first"]
    assert (first["organization"], first["source"], first["id"], first["index"]) == ("acme", "s", "poison", 1)
    (letter,) = [line for line in lines if line["event"] == "dead letter"]
    assert (letter["reason"], letter["id"], letter["trace_id"]) == ("invalid_event", "poison", trace.trace_id)
