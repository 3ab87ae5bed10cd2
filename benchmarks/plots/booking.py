"""A worker's work between Kafka and the commit, in this process: records in, rows out, by the worker's own code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from statistics import quantiles
from typing import Any, NamedTuple

import orjson
from process_usage import processor_seconds
from psycopg import Connection
from workload import event

from schemas.topics import USAGE_EVENTS
from services.domain.directory import Directory
from services.metering.booking.ledger_writer import LedgerWriter
from services.metering.booking.pricing import Covered, Record, price_batch, read_elements


class Taken(NamedTuple):
    """What one batch took."""

    events: int
    worker_seconds: float
    """Processor time of reading, pricing, and sending the rows."""
    commit_seconds: float
    """From the begin of the transaction to the end of its commit."""


class Booking:
    """Books made-up events of some organizations, batch after batch, over one connection."""

    def __init__(self, dsn: str, directory: Directory, organizations: Sequence[str], partitions: int = 12) -> None:
        """``organizations`` take turns; records are spread evenly over the partitions."""
        self._writer = LedgerWriter(dsn, f"bench-{time.time_ns()}", USAGE_EVENTS.name)
        self._directory = directory
        self._organizations = organizations
        self._partitions = partitions
        self._next = [0] * partitions
        self._numbers = count(time.time_ns())
        self._writer.begin(dict.fromkeys(range(partitions), 0))
        self._writer.positions(range(partitions))

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()

    def book(self, batches: int, events: int, in_record: int) -> Iterator[Taken]:
        """So many batches of so many events, of which each record has some."""
        for _ in range(batches):
            records = list(self._records(events, in_record))
            began, now = time.process_time(), datetime.now(UTC)
            read = [read_elements(record, now) for record in records]
            batch = price_batch(self._covered(records), read, self._directory)
            staged = self._writer.stage(batch)
            booked = self._writer.book(batch, staged)
            used = time.process_time() - began
            if booked.recorded != events:
                raise SystemExit(f"only {booked.recorded} of {events} events were booked")
            yield Taken(events, used, booked.seconds)

    def _records(self, events: int, in_record: int) -> Iterator[Record]:
        for number, _ in enumerate(range(0, events, in_record)):
            partition = number % self._partitions
            some = [self._event(next(self._numbers)) for _ in range(in_record)]
            value = orjson.dumps(some if in_record > 1 else some[0])
            yield Record(partition, self._next[partition], b"key", value, time.time())
            self._next[partition] += 1

    def _event(self, number: int) -> dict[str, Any]:
        # The time of an event follows from its number, and must lie before now.
        made = event(self._organizations[number % len(self._organizations)], number % 50_000_000)
        return made | {"id": f"event-{number}"}

    def _covered(self, records: Sequence[Record]) -> list[Covered]:
        firsts = {record.partition: record.offset for record in reversed(records)}
        return [Covered(partition, first, self._next[partition]) for partition, first in firsts.items()]


def measured(booking: Booking, admin: Connection[Any], batches: int, events: int, in_record: int) -> dict[str, float]:
    """What booking takes, an event and a batch, from a checkpoint on. ``admin`` is a superuser's session."""
    list(booking.book(2, events, in_record))
    admin.execute("CHECKPOINT")
    (pid,) = admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'byok-metering'").fetchone() or (
        0,
    )
    before, wal = processor_seconds(pid), _wal(admin)
    taken = list(booking.book(batches, events, in_record))
    rows = batches * events
    commits = sorted(1_000 * each.commit_seconds for each in taken)
    cuts = quantiles(commits, n=100)
    return {
        "worker, µs an event": 1e6 * sum(each.worker_seconds for each in taken) / rows,
        "PostgreSQL, µs an event": 1e6 * (processor_seconds(pid) - before) / rows,
        "commit p50, ms": cuts[49],
        "commit p99, ms": cuts[98],
        "WAL, bytes a row": (_wal(admin) - wal) / rows,
    }


def _wal(admin: Connection[Any]) -> int:
    (written,) = admin.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone() or (0,)
    return int(written)
