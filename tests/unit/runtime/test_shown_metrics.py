"""Metrics that are read when they are asked for: what is shown, how often a database is read, and what of an outage."""

from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from schemas.metrics import Kind, Metric, Service, Unit
from services.runtime.metrics import Family, FromDatabase, Shown, family
from tests.patience import PATIENCE_SECONDS

KEPT = Metric("byok_kept_total", Kind.COUNTER, Unit.EVENTS, ("kind",), (Service.LEDGER,), "Kept.")
OPEN = Metric("byok_open", Kind.GAUGE, Unit.EVENTS, (), (Service.LEDGER,), "Open.")


def test_families_are_shown_under_their_names_types_and_labels() -> None:
    registry = CollectorRegistry()
    registry.register(Shown([KEPT, OPEN], lambda: [family(KEPT, [(("odd",), 3)]), family(OPEN, [((), 2.5)])]))
    assert generate_latest(registry).decode().splitlines() == [
        "# HELP byok_kept_total Kept.",
        "# TYPE byok_kept_total counter",
        'byok_kept_total{kind="odd"} 3.0',
        "# HELP byok_open Open.",
        "# TYPE byok_open gauge",
        "byok_open 2.5",
    ]


def test_registering_reads_nothing() -> None:
    def read() -> list[Family]:
        raise AssertionError("read")

    CollectorRegistry().register(Shown([KEPT], read))


def test_a_database_is_read_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, reads = 100.0, 0

    def read() -> list[Family]:
        nonlocal reads
        reads += 1
        return [family(OPEN, [((), reads)])]

    monkeypatch.setattr(time, "monotonic", lambda: now)
    asked = FromDatabase(read, SQLAlchemyError)
    assert [asked()[0].samples[0].value for _ in range(5)] == [1] * 5
    now += 1.5
    assert asked()[0].samples[0].value == 2


def test_what_cannot_be_read_is_absent_never_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    now, away = 100.0, False

    def read() -> list[Family]:
        if away:
            raise OperationalError("SELECT", None, Exception("away"))
        return [family(OPEN, [((), 1)])]

    monkeypatch.setattr(time, "monotonic", lambda: now)
    asked = FromDatabase(read, SQLAlchemyError)
    assert len(asked()) == 1
    now, away = now + 1.5, True
    assert asked() == []


def test_what_does_not_answer_is_absent_and_read_once_until_it_does() -> None:
    answer, reads = threading.Event(), []

    def read() -> list[Family]:
        reads.append(None)
        assert answer.wait(PATIENCE_SECONDS)
        return [family(OPEN, [((), 1)])]

    asked = FromDatabase(read, SQLAlchemyError, patience_seconds=0.01)
    assert [asked() for _ in range(5)] == [[]] * 5
    answer.set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not asked():
        assert time.monotonic() < deadline
    assert len(reads) == 1
