"""What the feed costs on a ledger of many entries: the upgrade that gives them places, a page of it, giving places.

A PostgreSQL of its own is started on this machine, with as many entries as are asked for, made in SQL.

    python benchmarks/bench_feed.py --entries 1000000
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from alembic import command
from alembic.config import Config

from services.books import migrations
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import Postgres
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import StopSwitch, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 60
_PAGES = 50
_PAGE_ENTRIES = 1_000
_PASSWORDS = {role: f"of-{role}" for role in LOGIN_ROLES}
_BEFORE_THE_FEED = "0011"
_ENTRIES = """
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, user_id, event_source, event_id, event_type, occurred_at,
  recorded_at, succeeded, quantity, input_tokens, cached_input_tokens, output_tokens, key_source, reason, flags,
  list_mc, charged_mc, saved_mc, rate_card, registry_seq, payload_hash, source_partition_id, source_offset,
  source_index)
SELECT gen_random_uuid(), 'charge', 0, 'org-' || n %% 48, 'user-' || n %% 997, 'bench', n::text,
  'usage.tool_call.v1', now() - interval '30 days' + n * interval '10 ms',
  now() - interval '30 days' + n * interval '10 ms', true, 1, 0, 0, 0, 'none', 'not_model_usage', '{}', 1, 1, 0,
  '2026-11-01', 1, sha256(n::text::bytea), 1, n, 0
FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""
_PAGE = "SELECT * FROM ledger.entry_feed WHERE position > %s ORDER BY position LIMIT %s"
_PART = 100_000
_BATCH = 1_000


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--entries", type=int, default=1_000_000)
    entries = options.parse_args().entries
    with tempfile.TemporaryDirectory(prefix="byok-bench-") as folder, _database(Path(folder)) as dsn:
        _upgrade(dsn, _BEFORE_THE_FEED)
        with psycopg.connect(dsn, autocommit=True) as ledger:
            for start in range(0, entries, _PART):
                ledger.execute(_ENTRIES, (start, min(start + _PART, entries)))
            began = time.perf_counter()
            _upgrade(dsn, "head")
            print(f"{entries:,} entries; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
            print(f"the upgrade that gives them places: {time.perf_counter() - began:.1f} s")
            ledger.execute("ANALYZE ledger.entry, ledger.entry_position")
            for where, after in (("first", 0), ("middle", entries // 2), ("last", entries - 10 * _PAGE_ENTRIES)):
                print(f"a page of {_PAGE_ENTRIES:,}, {where}: {_page_ms(ledger, max(0, after)):.1f} ms")
            _place(ledger, entries)
            print(*_plan(ledger, entries // 2), sep="\n")
            print(_size(ledger))
    return 0


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    port = Ports.free_block().postgres
    supervisor = Supervisor(folder, StopSwitch())
    server = Postgres(folder / "postgres", port, "made-up", dict(os.environ))
    deadline = time.monotonic() + _START_SECONDS
    try:
        server.initialize(supervisor, deadline)
        child = supervisor.start(server.program())
        supervisor.wait_until(server.answers, deadline, lambda: child.report("does not answer"))
        with server.connect() as admin:
            prepare_databases(admin, _PASSWORDS)
        yield f"postgresql://ledger_owner:{_PASSWORDS['ledger_owner']}@{LOOPBACK}:{port}/ledger"
    finally:
        supervisor.stop()
        server.close()


def _upgrade(dsn: str, revision: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS ledger")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes.update(dsn=dsn, schema="ledger")
    command.upgrade(config, revision)


def _page_ms(ledger: psycopg.Connection[Any], after: int) -> float:
    times = []
    for _ in range(_PAGES):
        began = time.perf_counter()
        ledger.execute(_PAGE, (after, _PAGE_ENTRIES)).fetchall()
        times.append(1_000 * (time.perf_counter() - began))
    return statistics.median(times)


def _place(ledger: psycopg.Connection[Any], first: int) -> None:
    for start in range(first, first + _PART, _BATCH):
        ledger.execute(_ENTRIES, (start, start + _BATCH))
    began = time.perf_counter()
    steps = 0
    while ledger.execute("SELECT ledger.place_entries(20000)").fetchone() != (0,):
        steps += 1
    seconds = time.perf_counter() - began
    print(f"places for {_PART:,} more in batches of {_BATCH:,}: {seconds:.2f} s in {steps} transactions")


def _plan(ledger: psycopg.Connection[Any], after: int) -> list[str]:
    return [row[0] for row in ledger.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {_PAGE}", (after, _PAGE_ENTRIES))]


def _size(ledger: psycopg.Connection[Any]) -> str:
    sizes = ledger.execute(
        "SELECT pg_size_pretty(pg_total_relation_size('ledger.entry_position')),"
        " pg_size_pretty(pg_total_relation_size('ledger.entry'))"
    ).fetchone()
    return "places take {} beside {} of entries".format(*(sizes or ("?", "?")))


if __name__ == "__main__":
    sys.exit(main())
