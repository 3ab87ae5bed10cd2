"""Against the size of the ledger: what a batch's commit and a row take, what pages and sums take, and the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from bench_growth import Server
from bench_hot_path import _directory as directory
from process_usage import processor_seconds
from psycopg import Connection

from plots.booking import Booking, measured
from plots.figures import Point, point
from plots.growing_ledger import grow, sizes
from plots.ledger_questions import asked_of, milliseconds
from services.metering.sequencer import place_entries
from services.runtime.database import connect

SIZES = (0, 100_000, 1_000_000, 2_000_000)
ALL_SIZES = (*SIZES, 5_000_000, 20_000_000)
_BATCHES, _BATCH_EVENTS, _RECORD_EVENTS = 150, 1_000, 100
_ORGANIZATIONS = [f"org-{number}" for number in range(48)]
_SMALL = "small-0-0"
_INDEXES = ("entry_by_run", "entry_by_user", "entry_with_flags")


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each size, in one ledger that grows; in the end without the indexes that only some questions need."""
    with tempfile.TemporaryDirectory(prefix="byok-bench-") as folder, closing(Server(Path(folder))) as server:
        server.create("books")
        with (
            psycopg.connect(server.dsn("books", "ledger_owner"), autocommit=True) as owner,
            server.admin("books") as admin,
            connect(server.dsn("books"), "bench", autocommit=True) as sequencer,
            closing(Booking(server.dsn("books"), directory(), _ORGANIZATIONS)) as booking,
        ):
            grown = 0
            for rows in asked:
                if rows > grown:
                    grow(owner, server.dsn("books"), grown, rows - grown)
                grown = rows
                found = _booked(booking, admin)
                found |= {"places and sums, µs an entry": _placed(sequencer)} | sizes(owner)
                if rows:
                    with asked_of(server.dsn("books"), rows, _SMALL) as questions:
                        found |= milliseconds(questions.questions())
                        if rows == asked[-1]:
                            found |= _otherwise(owner, admin, booking, questions.filters())
                yield point(rows, found)


def _placed(sequencer: Connection[Any]) -> float:
    """Processor time of the sequencer's session, for each entry that waited."""
    before, placed = processor_seconds(sequencer.info.backend_pid), 0
    while some := place_entries(sequencer, most=_BATCH_EVENTS):
        placed += some
    return 1e6 * (processor_seconds(sequencer.info.backend_pid) - before) / placed


def _otherwise(owner: Connection[Any], admin: Connection[Any], booking: Booking, filters: Any) -> dict[str, float]:
    """With full pages compressed in the WAL, and without the indexes that only some questions need."""
    admin.execute("ALTER SYSTEM SET wal_compression = 'pglz'")
    admin.execute("SELECT pg_reload_conf()")
    found = _with_prefix("WAL compressed", _booked(booking, admin))
    admin.execute("ALTER SYSTEM RESET wal_compression")
    admin.execute("SELECT pg_reload_conf()")
    for name in _INDEXES:
        owner.execute(f"DROP INDEX ledger.{name}")
    return found | _with_prefix("without indexes", _booked(booking, admin) | milliseconds(filters))


def _booked(booking: Booking, admin: Connection[Any]) -> dict[str, float]:
    return measured(booking, admin, _BATCHES, _BATCH_EVENTS, _RECORD_EVENTS)


def _with_prefix(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}: {name}": value for name, value in values.items()}
