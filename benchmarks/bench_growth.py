"""What the ledger's tables cost: bytes a row, WAL, and what hash partitions of the entries would make of it.

On the embedded PostgreSQL alone, as `byok up` starts it. Real events are priced and booked once, and then copied with
other ids and organizations, batch by batch, through the very statements of the worker. The partitions are made by the
DDL that docs/how-to/grow.md tells operators to run.

    python benchmarks/bench_growth.py --rows 1000000 --partitions 0 8 16
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import psycopg
from bench_directory import _message as credential_message
from bench_leases import Caller
from psycopg import Connection
from workload import event

from schemas.registry_changes import RateCardChange
from schemas.topics import USAGE_EVENTS
from services.books.columns import BOOKED, PLACE
from services.books.entry_rows import COPY_FORMAT
from services.books.migrations import upgrade
from services.domain.directory import Directory
from services.key_registry.rate_cards import packaged_cards
from services.local.children import foreign_environment
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import SUPERUSER, Postgres
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import StopSwitch, Supervisor
from services.local.stack import BYOK_COMMANDS, Stack
from services.messages.registry_changes import to_change
from services.metering.booking import ledger_writer
from services.metering.booking.ledger_writer import LedgerWriter
from services.metering.booking.pricing import Covered, Record, price_batch, read_elements
from services.metering.upkeep.covered_ranges import RangeMerger
from services.runtime.database import connect

_BATCH = 5_000
_ORGANIZATIONS = 500
_KEYS, _LEASES = 500, 1_000
_START_SECONDS = 60.0
_GROW = Path(__file__).parents[1] / "docs" / "how-to" / "grow.md"
_COLUMNS = (*BOOKED, *PLACE)
# Of what is copied: another event of another organization, with an id that is as random as a derived one.
_OTHERS = {
    "entry_id": "md5(event_id || '-' || %(round)s)::uuid",
    "event_id": "event_id || '-' || %(round)s",
    "org_id": f"'org-' || (source_index * 7919 + %(round)s * 104729) %% {_ORGANIZATIONS}",
    "occurred_at": "occurred_at + make_interval(secs => %(round)s)",
}


class Server:
    """A PostgreSQL of the benchmark's own."""

    def __init__(self, folder: Path) -> None:
        self._passwords = {name: f"bench-{name}" for name in (SUPERUSER, *LOGIN_ROLES)}
        self._port = Ports.free_block().postgres
        self._supervisor = Supervisor(folder, StopSwitch())
        environment = foreign_environment()
        self._server = Postgres(folder / "postgres", self._port, self._passwords[SUPERUSER], environment)
        deadline = time.monotonic() + _START_SECONDS
        self._server.initialize(self._supervisor, deadline)
        child = self._supervisor.start(self._server.program())
        self._supervisor.wait_until(self._server.answers, deadline, lambda: child.report("does not answer"))
        with self._server.connect() as admin:
            prepare_databases(admin, self._passwords)

    def dsn(self, database: str, role: str = "ledger_service") -> str:
        """How ``role`` reaches a database."""
        return f"postgresql://{role}:{self._passwords[role]}@{LOOPBACK}:{self._port}/{database}"

    def create(self, name: str) -> None:
        """An empty ledger."""
        with self._server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER ledger_owner")
        upgrade(self.dsn(name, "ledger_owner"))

    @contextmanager
    def admin(self, database: str) -> Iterator[Connection[Any]]:
        """A session that may look at everything."""
        with self._server.connect(database) as connection:
            connection.autocommit = True
            yield connection

    def close(self) -> None:
        """End it."""
        self._supervisor.stop()
        self._server.close()


class Cost(NamedTuple):
    """What rows took."""

    rows: int
    seconds: float
    wal: int
    heap: int
    indexes: int

    def told(self) -> str:
        """In a line."""
        heap, indexes, wal = (number / self.rows for number in (self.heap, self.indexes, self.wal))
        rate = f"{self.rows / self.seconds:>9,.0f} rows/s" if self.seconds else f"{'':>16}"
        return f"{self.rows:>9,} rows {rate}  heap {heap:>6,.0f}  indexes {indexes:>6,.0f}  WAL {wal:>6,.0f} bytes/row"


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rows", type=int, default=100_000, help="entries in each kind of table")
    options.add_argument("--partitions", type=int, nargs="+", default=[0, 8, 16], help="0: one table")
    asked = options.parse_args()
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    with tempfile.TemporaryDirectory(prefix="byok-bench-") as folder:
        with closing(Server(Path(folder))) as server:
            server.create("base")
            _book_once(server.dsn("base"))
            (version,) = _one(server, "base", "SHOW server_version")
            print(f"PostgreSQL {version}, Python {sys.version.split()[0]}, {machine}")
            _entries(server, asked.partitions, asked.rows)
            _other_tables(server, asked.rows // 10)
        _services(Path(folder) / "stack")
    return 0


# --- entries ----------------------------------------------------------------------------------------------------------


def _book_once(dsn: str) -> None:
    """One batch, booked as a worker books it."""
    directory, now = Directory(), datetime.now(UTC)
    for seq, card in enumerate(packaged_cards(), start=1):
        change = RateCardChange(
            seq=seq, changed_at=now, card=card.card, effective_from=card.effective_from, body=card.body
        )
        directory.apply(seq, to_change(change))
    values = [orjson.dumps([event("org", number) for number in range(at, at + 100)]) for at in range(0, _BATCH, 100)]
    records = [Record(0, offset, b"org", value, now.timestamp()) for offset, value in enumerate(values)]
    writer = LedgerWriter(dsn, "bench", USAGE_EVENTS.name)
    with closing(writer):
        writer.begin({0: 0})
        writer.positions([0])
        read = [read_elements(record, now) for record in records]
        booked = writer.book(price_batch([Covered(0, 0, len(records))], read, directory))
    if booked.recorded != _BATCH:
        raise SystemExit(f"only {booked.recorded} of {_BATCH} events were booked")


def _entries(server: Server, kinds: Sequence[int], rows: int) -> None:
    """The same rows into each kind of table, in turns, so that other load on the machine is the same for all."""
    tables = [_Table(server, partitions) for partitions in kinds]
    with psycopg.connect(server.dsn("base")) as base, server.admin("base") as admin:
        admin.execute("CHECKPOINT")
        for number in range(rows // _BATCH):
            staged = _others(base, number)
            for table in tables:
                before = _wal(admin)
                table.seconds += _insert(table.connection, staged)
                table.wal += _wal(admin) - before
    for table in tables:
        table.connection.close()
        with server.admin(table.name) as admin:
            admin.execute("VACUUM ANALYZE ledger.entry")
            cost = Cost(rows, table.seconds, table.wal, *_sizes(admin, "ledger.entry"))
        print(f"\nledger.entry, {f'{table.partitions} hash partitions' if table.partitions else 'one table'}:")
        print(f"  {cost.told()}")
        if not table.partitions:
            _tell_indexes(server, table.name, rows)
        for what, milliseconds in _reads(server, table.name, rows):
            print(f"  {what:<58}{milliseconds:>9,.2f} ms", flush=True)


class _Table:
    """A ledger of its own, with entries in one table or in hash partitions, and what it took to fill it."""

    def __init__(self, server: Server, partitions: int) -> None:
        self.partitions = partitions
        self.name = f"entries_{partitions}"
        self.seconds = 0.0
        self.wal = 0
        server.create(self.name)
        if partitions:
            _partition(server, self.name, partitions)
        self.connection = connect(server.dsn(self.name), "bench")
        self.connection.execute(ledger_writer._CREATE_STAGING)
        self.connection.commit()


def _partition(server: Server, name: str, partitions: int) -> None:
    """The steps of the page but for the copying: nothing is there yet."""
    make, follow, _copy, swap = re.findall(r"```sql\n(.+?)```", _GROW.read_text(), re.DOTALL)
    make = make.replace("0..15", f"0..{partitions - 1}").replace("MODULUS 16", f"MODULUS {partitions}")
    with psycopg.connect(server.dsn(name, "ledger_owner"), autocommit=True) as owner:
        for step in (make, follow, swap):
            owner.execute(step)


def _insert(connection: Connection[Any], staged: bytes) -> float:
    """Seconds that the worker's own statements took: COPY into the staging table, and from there into the entries."""
    began = time.perf_counter()
    with connection.transaction():
        with connection.cursor().copy(ledger_writer._COPY) as copy:
            copy.write(staged)
        inserted = connection.execute(ledger_writer._INSERT).rowcount
    seconds = time.perf_counter() - began
    if inserted != _BATCH:
        raise SystemExit(f"only {inserted} of {_BATCH} rows are new")
    return seconds


def _others(base: Connection[Any], number: int) -> bytes:
    wanted = ", ".join(_OTHERS.get(column, column) for column in _COLUMNS)
    query = f"COPY (SELECT {wanted} FROM ledger.entry) TO STDOUT {COPY_FORMAT}"
    query = query.replace("%(round)s", str(number)).replace("%%", "%")
    with base.cursor().copy(query) as copy:
        return b"".join(bytes(part) for part in copy)


def _tell_indexes(server: Server, name: str, rows: int) -> None:
    with server.admin(name) as admin:
        sizes = admin.execute(
            "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index"
            " WHERE indrelid = 'ledger.entry'::regclass ORDER BY 2 DESC"
        ).fetchall()
    for index, size in sizes:
        print(f"    {index:<64}{size / rows:>6,.0f} bytes/row")


def _reads(server: Server, name: str, rows: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of each question, as it is asked for the second time and later."""
    with server.admin(name) as admin:
        sample = admin.execute(
            "SELECT entry_id, org_id, event_source, event_id, occurred_at FROM ledger.entry"
            " ORDER BY md5(entry_id::text) LIMIT 50"
        ).fetchall()
        ids = [row[0] for row in admin.execute("SELECT entry_id FROM ledger.entry LIMIT %s", (_BATCH,))]
        times = admin.execute("SELECT min(recorded_at), max(recorded_at) FROM ledger.entry").fetchone()
    since, until = times or (datetime.now(UTC),) * 2
    stretch = since + (until - since) / max(1, rows // 50_000)
    questions: list[tuple[str, str, Sequence[Any], str]] = [
        (
            "an organization's newest 100",
            "SELECT * FROM ledger.entries WHERE org_id = %s ORDER BY occurred_at DESC, entry_id DESC LIMIT 100",
            [(org,) for _, org, *_ in sample],
            "",
        ),
        (
            "an organization's sums by provider and model",
            "SELECT provider, model, sum(list_mc), sum(charged_mc) FROM ledger.entries WHERE org_id = %s GROUP BY 1, 2",
            [(org,) for _, org, *_ in sample],
            "",
        ),
        (
            "one entry by its id (a receipt)",
            "SELECT * FROM ledger.entry WHERE entry_id = %s",
            [(entry_id,) for entry_id, *_ in sample],
            "",
        ),
        (
            "one event by its identity",
            "SELECT * FROM ledger.entry WHERE (org_id, event_source, event_id, revision) = (%s, %s, %s, 0)",
            [tuple(row[1:4]) for row in sample],
            "",
        ),
        (
            "the hashes of 5,000 entries (a batch that comes again)",
            "SELECT entry_id, payload_hash FROM ledger.entry WHERE entry_id = ANY(%s)",
            [(ids,)] * 5,
            "",
        ),
        (
            "the re-rater's next 1,000 of an organization",
            "SELECT * FROM ledger.entry e WHERE e.org_id = %s AND e.occurred_at >= %s"
            " ORDER BY e.org_id, e.occurred_at, e.entry_id LIMIT 1000",
            [(row[1], row[4]) for row in sample],
            "SET enable_seqscan = off; SET enable_bitmapscan = off",
        ),
        (
            "the re-rater's next 1,000 of all (a new card)",
            "SELECT * FROM ledger.entry e WHERE e.occurred_at >= %s"
            " ORDER BY e.org_id, e.occurred_at, e.entry_id LIMIT 1000",
            [(row[4],) for row in sample[:3]],
            "SET enable_seqscan = off; SET enable_bitmapscan = off",
        ),
        (
            "the charges of 50,000 entries' time (conservation)",
            "SELECT count(*) FROM ledger.entry WHERE kind = 'charge' AND source_partition_id = 1"
            " AND source_offset >= 0 AND source_offset < 100000 AND recorded_at BETWEEN %s AND %s",
            [(since, stretch)] * 5,
            "",
        ),
        ("the sums of all", "SELECT sum(list_mc), sum(charged_mc) FROM ledger.entry", [()] * 2, ""),
    ]
    for what, statement, parameters, setting in questions:
        yield what, _asked(server.dsn(name), statement, parameters, setting)


def _asked(dsn: str, statement: str, parameters: Sequence[Any], setting: str) -> float:
    with connect(dsn, "bench", autocommit=True) as connection:
        if setting:
            connection.execute(setting)
        connection.execute(statement, parameters[0]).fetchall()
        began = time.perf_counter()
        for each in parameters:
            connection.execute(statement, each).fetchall()
        return (time.perf_counter() - began) / len(parameters) * 1_000


# --- the other tables -------------------------------------------------------------------------------------------------


def _other_tables(server: Server, rows: int) -> None:
    server.create("others")
    with psycopg.connect(server.dsn("others", "ledger_owner"), autocommit=True) as owner:
        owner.execute(
            "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
            " SELECT 'bench', %s, n, 0, 0 FROM generate_series(0, 11) n",
            (USAGE_EVENTS.name,),
        )

        def tell(table: str, write: Callable[[], object]) -> None:
            print(f"\n{table}:\n  {_measured(server, 'others', table, lambda: _timed(write)).told()}")

        tell("ledger.covered_range", lambda: _cover(owner, rows))
        _merge(server, rows)
        tell("ledger.dead_letter", lambda: _refuse(owner, rows))
        tell("ledger.registry_change", lambda: _follow(owner, rows))


def _cover(owner: Connection[Any], rows: int) -> None:
    """Batches that took one record of ten events from each partition, ten of them in a second."""
    owner.execute(
        "INSERT INTO ledger.covered_range SELECT 1 + n %% 12, n / 12, n / 12 + 1, 10, 10, 0, 0,"
        " now() - interval '30 days' + make_interval(secs => n / 120.0) FROM generate_series(0, %s) n",
        (rows - 1,),
    )


def _merge(server: Server, rows: int) -> None:
    with server.admin("others") as admin, connect(server.dsn("others"), "bench", autocommit=True) as connection:
        before = _wal(admin)
        began = time.perf_counter()
        gone = RangeMerger(3_600).step(connection)
        seconds = time.perf_counter() - began
        wal = (_wal(admin) - before) / rows
        admin.execute("VACUUM FULL ledger.covered_range")
        (left, size) = admin.execute(
            "SELECT count(*), pg_total_relation_size('ledger.covered_range') FROM ledger.covered_range"
        ).fetchone() or (0, 0)
    print(f"  merged: {rows:,} into {left:,} in {seconds:.1f} s ({gone / seconds:,.0f}/s), WAL {wal:,.0f} bytes each;")
    print(f"  {size / rows:,.2f} bytes are left of each")


def _refuse(owner: Connection[Any], rows: int) -> None:
    """Refused for a model without a price, as most are: the event's own bytes are kept."""
    payload = orjson.dumps(event("org-1", 1))
    owner.execute(
        "INSERT INTO ledger.dead_letter (source_partition_id, source_offset, source_index, reason, detail, org_id,"
        " event_source, event_id, event_type, record_key, payload, masked, relayed_at)"
        " SELECT 1 + n %% 12, n / 12, 0, 'unpriced_model', 'model: the card has no such model', 'org-' || n %% 500,"
        " 'bench', 'event-' || n, 'usage.token_usage.v1', 'org-1', %s, false, now() FROM generate_series(1, %s) n",
        (payload, rows),
    )


def _follow(owner: Connection[Any], rows: int) -> None:
    with owner.cursor().copy("COPY ledger.registry_change (seq, key, payload) FROM STDIN") as copy:
        for number in range(rows):
            copy.write_row((number + 1, f"credential:00000000-0000-4000-8000-{number:012}", credential_message(number)))


# --- the services -----------------------------------------------------------------------------------------------------


def _services(folder: Path) -> None:
    """What each service keeps open, at rest."""
    print("\none process of each service, at rest:")
    with Stack(folder, commands=BYOK_COMMANDS, switch=StopSwitch()) as stack:
        endpoints = stack.endpoints
        for dsn in (endpoints.ledger_dsn, endpoints.registry_dsn):
            for name, count in _kept_open(dsn):
                print(f"  {dsn.rpartition('/')[2]:<10}{name:<40}{count:>4} connections")
        for url in endpoints.metrics:
            told = httpx.get(url, timeout=10).text
            (resident,) = re.findall(r"^process_resident_memory_bytes (\S+)$", told, re.MULTILINE)
            (service,) = set(re.findall(r'^byok_registry_seq{service="(\w+)"}', told, re.MULTILINE))
            print(f"  {service:<50}{float(resident) / 1e6:>4,.0f} MB")
        _registry_tables(stack)


def _registry_tables(stack: Stack) -> None:
    """What keys and leases leave behind, in the registry's database."""
    caller = Caller(stack.endpoints.registry_url, stack.endpoints.tokens.platform)
    caller.call("PUT", "/v1/organizations/org/plan", {"plan": "pro"})
    with connect(stack.endpoints.registry_dsn, "bench", autocommit=True) as connection:
        sizes = [_registry_sizes(connection)]
        for number in range(_KEYS):
            scope = {"type": "team", "id": f"team-{number}"}
            key = {"org_id": "org", "scope": scope, "provider": "openai", "api_key": f"sk-bench-{number:020}"}
            _expect(caller.call("POST", "/v1/credentials", key), 201)
        sizes.append(_registry_sizes(connection))
        for number in range(_LEASES):
            asked = {"org_id": "org", "user_id": "uma", "team_id": f"team-{number % _KEYS}", "provider": "openai"}
            _expect(caller.call("POST", "/v1/lease", asked), 200)
        sizes.append(_registry_sizes(connection))
    keys, leases = (
        {table: after[table] - before[table] for table in after} for before, after in itertools.pairwise(sizes)
    )
    print("\nregistry, bytes with indexes:")
    print(f"  a key, its row in the audit log included{sum(keys.values()) / _KEYS:>24,.0f}")
    print(f"  a lease, in the audit log{leases['audit'] / _LEASES:>39,.0f}")


def _registry_sizes(connection: Connection[Any]) -> dict[str, int]:
    query = (
        "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
        " WHERE relnamespace = 'registry'::regnamespace AND relkind = 'r'"
    )
    return dict(connection.execute(query).fetchall())


def _expect(answer: tuple[int, bytes], status: int) -> None:
    if answer[0] != status:
        raise SystemExit(f"the registry answers {answer[0]}: {answer[1]!r}")


def _kept_open(dsn: str) -> Iterable[tuple[str, int]]:
    # What opens a connection now and then has had the time to.
    time.sleep(10)
    query = (
        "SELECT application_name, count(*)::int FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
        " GROUP BY 1 ORDER BY 1"
    )
    with connect(dsn, "bench", autocommit=True) as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


# --- measuring --------------------------------------------------------------------------------------------------------


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measured(server: Server, database: str, table: str, work: Callable[[], float]) -> Cost:
    """What ``work`` took, by its own account, what it wrote, and how large the table is then."""
    with server.admin(database) as admin:
        admin.execute("CHECKPOINT")
        before = _wal(admin)
        seconds = work()
        wal = _wal(admin) - before
        (rows,) = admin.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
        return Cost(rows, seconds, wal, *_sizes(admin, table))


def _sizes(admin: Connection[Any], table: str) -> tuple[int, int]:
    """Bytes of the rows and of the indexes, of all partitions."""
    query = (
        "SELECT sum(pg_table_size(relid))::bigint, sum(pg_indexes_size(relid))::bigint"
        " FROM (SELECT %(table)s::regclass AS relid UNION SELECT relid FROM pg_partition_tree(%(table)s)) AS tables"
    )
    heap, indexes = admin.execute(query, {"table": table}).fetchone() or (0, 0)
    return int(heap), int(indexes)


def _wal(admin: Connection[Any]) -> int:
    (written,) = admin.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone() or (0,)
    return int(written)


def _one(server: Server, database: str, query: str) -> tuple[Any, ...]:
    with server.admin(database) as admin:
        return admin.execute(query).fetchone() or (None,)


if __name__ == "__main__":
    raise SystemExit(main())
