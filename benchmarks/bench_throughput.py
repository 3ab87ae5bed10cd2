"""How fast one metering worker books: events that wait in the topic until their rows are committed.

The whole stack runs on this machine (embedded broker and PostgreSQL); the metering is started only when everything is
in the topic. Usage v1 and v2 take turns, for a ledger that grows is written more slowly. Beside them, in the same run
and the same PostgreSQL, a plain COPY of the same rows: into a table with the indexes and CHECKs of floor.sql, and into
one with the ledger's of now. The first is the floor: it reads, checks and prices nothing, and stays as it is.

    python benchmarks/bench_throughput.py --events 200000 --single-events 100000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from ledger_owner import owner_dsn
from process_usage import processor_seconds
from psycopg import Connection
from worker import metering
from workload import SINCE, booked, event, publish

from services.cli.demo.registration import Api
from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import BYOK_COMMANDS, Commands, Stack
from services.runtime.database import connect

_ORGANIZATIONS = 48
_BATCH_EVENTS = 100
_DEADLINE_SECONDS = 600
_COPY_BYTES = 64 * 1024
_LOG = "metering.log"
# Half of the events at a turn: so both kinds find the ledger as large as each other, on the whole.
_BY_UNIT = (False, True, True, False)
_FLOOR = Path(__file__).with_name("floor.sql")
_AS_IT_IS = "CREATE TABLE bench.entry (LIKE ledger.entry INCLUDING ALL)"


class Measured(NamedTuple):
    """Rows that were committed in a time."""

    rows: int
    seconds: float
    worker_seconds: float = 0
    """Processor time of the worker in that time, its start left out: what other load on the machine changes less."""

    @property
    def per_second(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def main() -> int:
    """Measure and print; 1 where not everything was booked."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--events", type=int, default=200_000, help="in batches of 100; then as many by unit")
    options.add_argument("--single-events", type=int, default=100_000, help="each a record of its own; likewise")
    asked = options.parse_args()
    switch = StopSwitch()
    without_metering = {name: BYOK_COMMANDS.services[name] for name in ("registry", "ledger")}
    commands = Commands(upgrade=BYOK_COMMANDS.upgrade, services=without_metering)
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=commands, switch=switch) as stack,
    ):
        return _measure(stack, Path(folder), asked.events, asked.single_events)


def _measure(stack: Stack, folder: Path, batched: int, single: int) -> int:
    endpoints = stack.endpoints
    _add_keys(Api(endpoints.registry_url, endpoints.tokens.platform))
    identities, found = count(), dict[str, Measured]()
    with connect(endpoints.ledger_dsn, "bench", autocommit=True) as ledger:
        for what, events, batch in (("batches of 100", batched, _BATCH_EVENTS), ("single events", single, 1)):
            turns = [_book(stack, folder, ledger, identities, events // 2, batch, by_unit=each) for each in _BY_UNIT]
            for by_unit, kind in ((False, ""), (True, ", tokens by unit")):
                its = [turn for turn, each in zip(turns, _BY_UNIT, strict=True) if each is by_unit]
                found[f"metering, {what}{kind}"] = _together(its)
        (entries,) = ledger.execute("SELECT count(*) FROM ledger.entry").fetchone() or (0,)
        (version,) = ledger.execute("SHOW server_version").fetchone() or ("?",)
    with psycopg.connect(owner_dsn(endpoints.ledger_dsn, folder), autocommit=True) as owner:
        tables = {"indexes and CHECKs as in floor.sql": _FLOOR.read_text(), "as it is now": _AS_IT_IS}
        floor = {f"plain COPY, {what}": _copy(owner, table) for what, table in tables.items()}
    _show(floor | found, version)
    sent = next(identities)
    if entries != sent:
        print(f"{sent:,} events were sent, but {entries:,} entries are booked", file=sys.stderr)
        return 1
    return 0


def _add_keys(registry: Api) -> None:
    """Every second organization is on pro, with a team key, so that both prices are computed."""
    for number in range(0, _ORGANIZATIONS, 2):
        org_id = f"org-{number}"
        registry.call("PUT", f"/v1/organizations/{org_id}/plan", {"plan": "pro", **SINCE})
        scope = {"type": "team", "id": "team"}
        body = {"org_id": org_id, "scope": scope, "provider": "openai", "api_key": f"sk-bench-{number:020}", **SINCE}
        registry.call("POST", "/v1/credentials", body)


def _book(
    stack: Stack,
    folder: Path,
    ledger: Connection[Any],
    identities: Iterator[int],
    events: int,
    batch: int,
    *,
    by_unit: bool,
) -> Measured:
    before = booked(ledger)
    numbers = islice(identities, events)
    publish(stack, (event(f"org-{n % _ORGANIZATIONS}", n, by_unit=by_unit) for n in numbers), batch)
    began = ledger.execute("SELECT clock_timestamp()").fetchone()
    deadline, so_far, first, cpu_at_first = time.monotonic() + _DEADLINE_SECONDS, before, 0, 0.0
    with metering(stack, folder / _LOG) as worker:
        while so_far < before + events:
            if time.monotonic() > deadline or worker.poll() is not None:
                raise SystemExit(f"the metering did not book everything; the end of its log:\n{_log_end(folder)}")
            time.sleep(0.05)
            so_far = booked(ledger)
            if not first and so_far > before:
                first, cpu_at_first = so_far - before, processor_seconds(worker.pid)
        cpu = processor_seconds(worker.pid) - cpu_at_first
    measured = _between_commits(ledger, began)
    return measured._replace(worker_seconds=cpu * measured.rows / (events - first))


def _together(turns: Sequence[Measured]) -> Measured:
    return Measured(*(sum(its) for its in zip(*turns, strict=True)))


def _between_commits(ledger: Connection[Any], began: Any) -> Measured:
    """From the first transaction's begin to the last one's; so what the last one booked is not in that time."""
    transactions = ledger.execute(
        "SELECT recorded_at, sum(recorded)::bigint FROM ledger.covered_range WHERE recorded_at > %s"
        " GROUP BY recorded_at ORDER BY recorded_at",
        began,
    ).fetchall()
    seconds = (transactions[-1][0] - transactions[0][0]).total_seconds()
    return Measured(sum(rows for _, rows in transactions[:-1]), seconds)


def _log_end(folder: Path) -> str:
    return (folder / _LOG).read_text()[-2_000:]


def _copy(owner: Connection[Any], table: str) -> Measured:
    """All entries once more, from memory into another table in one COPY."""
    owner.execute("DROP SCHEMA IF EXISTS bench CASCADE")
    owner.execute("CREATE SCHEMA bench")
    owner.execute(table)
    named = ", ".join(column.name for column in owner.execute("SELECT * FROM bench.entry").description or ())
    ordered = f"COPY (SELECT {named} FROM ledger.entry ORDER BY recorded_at, entry_id) TO STDOUT"
    with owner.cursor().copy(ordered) as read:
        rows = b"".join(bytes(part) for part in read)
    began = time.perf_counter()
    with owner.cursor() as cursor:
        with cursor.copy(f"COPY bench.entry ({named}) FROM STDIN") as write:
            for start in range(0, len(rows), _COPY_BYTES):
                write.write(rows[start : start + _COPY_BYTES])
        copied = cursor.rowcount
    return Measured(copied, time.perf_counter() - began)


def _show(lines: Mapping[str, Measured], version: str) -> None:
    floor = next(iter(lines.values())).per_second
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    print(f"One metering worker; PostgreSQL {version}, Python {sys.version.split()[0]}, {machine}")
    print(f"{'':<52}{'rows':>9}{'seconds':>9}{'rows/s':>9}{'of COPY':>9}{'CPU µs':>8}")
    for what, line in lines.items():
        share = f"{line.per_second / floor:.0%}"
        cpu = f"{line.worker_seconds / line.rows * 1e6:.1f}" if line.worker_seconds else ""
        print(f"{what:<52}{line.rows:>9,}{line.seconds:>9.2f}{line.per_second:>9,.0f}{share:>9}{cpu:>8}")


if __name__ == "__main__":
    sys.exit(main())
