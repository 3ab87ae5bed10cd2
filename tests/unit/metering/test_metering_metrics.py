"""What a worker tells of the time from record to ledger."""

from __future__ import annotations

import json

import pytest

from services.metering.booking.pricing import Record, read_elements
from services.metering.metrics import MeteringMetrics
from tests.factories import utc, wire

NOW = utc("2026-05-01T12:30:00")
_NOW = NOW.timestamp()
_DAY = 86_400.0


def observed(timestamp: float) -> tuple[float, float]:
    """How many events were observed, and their seconds in all, after a record of one event with this timestamp."""
    metrics = MeteringMetrics(lambda: 0, dict, lambda: False, set)
    event = wire(model="small")
    record = Record(0, 0, None, json.dumps(event).encode(), timestamp)
    metrics.observe([read_elements(record, NOW)], _NOW, 0.02)

    def value(name: str) -> float:
        labels = {"event_type": event["type"]}
        return metrics.registry.get_sample_value(f"byok_event_to_ledger_seconds_{name}", labels) or 0.0

    return value("count"), value("sum")


@pytest.mark.parametrize(
    ("timestamp", "seconds"), [(_NOW - 2.5, 2.5), (_NOW - 90 * _DAY, 90 * _DAY), (_NOW, 0), (_NOW + 3_600, 0)]
)
def test_an_event_took_as_long_as_its_record_is_old(timestamp: float, seconds: float) -> None:
    assert observed(timestamp) == (1, seconds)


@pytest.mark.parametrize(
    "timestamp", [0, 0.001, 1, -0.001, -1, utc("1999-12-31T23:59:59").timestamp(), _NOW + 2 * _DAY]
)
def test_a_timestamp_that_cannot_be_is_no_latency(timestamp: float) -> None:
    assert observed(timestamp) == (0, 0)


def test_a_transaction_is_observed_once_with_its_time_and_its_events() -> None:
    metrics = MeteringMetrics(lambda: 0, dict, lambda: False, set)
    batch = json.dumps([wire(id=f"e{number}", model="small") for number in range(7)]).encode()
    records = [read_elements(Record(0, offset, None, batch, _NOW), NOW) for offset in range(2)]
    metrics.observe(records, _NOW, 0.02)
    sums = {
        name: metrics.registry.get_sample_value(f"{name}_sum") for name in ("byok_commit_seconds", "byok_batch_events")
    }
    counts = {name: metrics.registry.get_sample_value(f"{name}_count") for name in sums}
    assert sums == {"byok_commit_seconds": 0.02, "byok_batch_events": 14}
    assert set(counts.values()) == {1}
