"""The ledger side of metering: one batch is one transaction (docs/design.md, decisions 5 and 6), in plain SQL.

Lock order, the same everywhere: fence (shared), source partitions by id, entries by entry id. Once the first lock is
held, each statement is sent in one go: no COPY, no pipeline (which ``executemany`` is). A worker can be stopped at any
instant, and a server that waits for the rest of something is not idle: only the end of the transaction's time, or in a
COPY nothing at all, would free its locks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection

from services.books import columns
from services.books.entry_rows import COPY_FORMAT
from services.books.locks import FENCE
from services.books.source_traces import OF_THE_RECORD, SourceTrace, write_traces
from services.books.totals import Totals
from services.metering.booking.dead_letters import DeadLetter
from services.metering.booking.pricing import Covered, Element, PricedBatch
from services.metering.booking.staging import Staged, stage
from services.metering.booking.tally import Tally
from services.metering.dead_letters.share import Count, Origin
from services.runtime.database import arrays, connect

IDLE_SECONDS = 5
"""How long a worker may be silent in the middle of a transaction before its locks are taken from it."""

REFUSED_DATA = (psycopg.DataError, psycopg.IntegrityError)
"""What is raised where the database refuses rows for what is in them."""

_STAGED = columns.listed((*columns.BOOKED, *columns.PLACE))

_CREATE_STAGING = f"""
CREATE TEMP TABLE IF NOT EXISTS staged_charge ON COMMIT DELETE ROWS AS
SELECT {_STAGED} FROM ledger.entry WITH NO DATA
"""
_COPY = f"COPY staged_charge ({_STAGED}) FROM STDIN {COPY_FORMAT}"
_INSERT = f"""
INSERT INTO ledger.entry ({_STAGED}, saved_mc) SELECT {_STAGED}, list_mc - charged_mc FROM staged_charge
ORDER BY entry_id ON CONFLICT DO NOTHING
"""
# Read after the insert, which waits for others. No place is booked twice, for the partition has moved on from it: so
# what stands under one of our ids, and was not read where we read it, was there before.
_BOOKED_BEFORE = f"""
SELECT entry_id, payload_hash FROM ledger.entry JOIN unnest(%s::uuid[], %s::int[], %s::bigint[], %s::int[])
  AS ours (entry_id, {columns.listed(columns.PLACE)}) USING (entry_id)
WHERE ({columns.listed(columns.PLACE, "entry")}) IS DISTINCT FROM ({columns.listed(columns.PLACE, "ours")})
"""
_INSERT_DEAD_LETTERS = f"""
INSERT INTO ledger.dead_letter (source_partition_id, {columns.listed(columns.LETTER)})
SELECT * FROM unnest(%s::int[], {", ".join(f"%s::{type_}[]" for type_ in columns.LETTER.values())})
"""
_INSERT_COVERED = """
INSERT INTO ledger.covered_range
  (source_partition_id, from_offset, to_offset, events, recorded, duplicates, dead_letters)
SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
"""
_ADD_TOTALS = """
INSERT INTO ledger.metric_total (metric, labels, shard, value)
SELECT metric, labels, %s, value FROM unnest(%s::text[], %s::jsonb[], %s::numeric[])
  WITH ORDINALITY AS new (metric, labels, value, place) ORDER BY place
ON CONFLICT (metric, labels, shard) DO UPDATE SET value = metric_total.value + excluded.value
"""


_kept = attrgetter(*columns.LETTER)


class BehindFenceError(Exception):
    """The batch was priced with less than the fence asks for; ``seq`` says how much is needed."""

    def __init__(self, seq: int) -> None:
        """``seq`` is where the directory must be before the batch is priced again."""
        super().__init__(f"the fence stands at {seq}")
        self.seq = seq


class RowsMissingError(Exception):
    """Of the batch's rows some are neither new nor known: nobody may go on."""


class PartitionMovedError(Exception):
    """Another worker has advanced the partition: it is not this one's any more, or was booked before."""


class Position(NamedTuple):
    """How far one partition is booked."""

    source_partition_id: int
    next_offset: int


class Booked(NamedTuple):
    """What became of the events of a batch."""

    recorded: int
    duplicates: int
    dead_letters: int
    by_origin: Mapping[Origin, Count]
    """All of them by whose they are."""
    refused: Sequence[DeadLetter] = ()
    """The dead letters."""
    seconds: float = 0.0
    """How long the transaction took, its commit included."""


class _Ahead(NamedTuple):
    """The connection of the next batch, which batch's rows it has in an open transaction, and since when."""

    connection: Connection[Any]
    staged: Staged | None
    since: float


class LedgerWriter:
    """Books batches over one connection, while the rows of the next may be brought over another.

    Both are opened anew after an outage. One thread may call ``bring``, another all the rest.
    """

    def __init__(self, dsn: str, cluster_id: str, topic: str) -> None:
        """Positions are kept by cluster id and topic: another cluster's offsets are other offsets."""
        self._dsn = dsn
        self._cluster_id = cluster_id
        self._topic = topic
        self._connection: Connection[Any] | None = None
        self._ahead: _Ahead | None = None
        self._turn = threading.Lock()
        self._ids: dict[int, int] = {}

    def close(self) -> None:
        """Let go of the connections; the next use opens others."""
        ahead = self._take_ahead()
        for connection in (self._connection, ahead and ahead.connection):
            if connection is not None:
                connection.close()
        self._connection = None

    def _open(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Connection[Any]:
        connection = connect(self._dsn, "metering", idle_seconds=IDLE_SECONDS)
        connection.execute(_CREATE_STAGING)
        connection.commit()
        return connection

    def positions(self, partitions: Iterable[int]) -> dict[int, Position]:
        """How far the partitions are booked; none for a partition of which nothing is."""
        with self._open().transaction():
            rows = self._open().execute(
                """SELECT partition, source_partition_id, next_offset FROM ledger.source_partition
                   WHERE cluster_id = %s AND topic = %s AND partition = ANY(%s)""",
                (self._cluster_id, self._topic, list(partitions)),
            )
            positions = {partition: Position(row_id, offset) for partition, row_id, offset in rows}
        self._ids.update({partition: position.source_partition_id for partition, position in positions.items()})
        return positions

    def begin(self, origins: Mapping[int, int]) -> None:
        """Take up partitions of which nothing is booked yet, each from the first offset that its log still holds."""
        with self._open().transaction():
            self._open().execute(
                """INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)
                   SELECT %s, %s, partition, origin, origin
                   FROM unnest(%s::int[], %s::bigint[]) AS new (partition, origin)
                   ORDER BY partition ON CONFLICT (cluster_id, topic, partition) DO NOTHING""",
                (self._cluster_id, self._topic, *arrays(origins.items())),
            )

    def stage(self, batch: PricedBatch) -> Staged:
        """The rows of the batch, made before its transaction begins. Its partitions' positions must be known."""
        return stage(batch, self._ids)

    def bring(self, staged: Staged) -> None:
        """Bring the rows of the batch that is next to the database, while one is booked. Raises psycopg.Error.

        Nothing is locked, and nothing lost where it fails: ``book`` brings what was not brought, or long ago.
        """
        ahead = self._take_ahead()
        connection = self._connect() if ahead is None or ahead.connection.closed else ahead.connection
        try:
            connection.rollback()
            _copy(connection, staged)
        except psycopg.Error:
            connection.close()
            raise
        self._ahead = _Ahead(connection, staged, time.monotonic())

    def _take_ahead(self) -> _Ahead | None:
        with self._turn:
            ahead, self._ahead = self._ahead, None
        return ahead

    def book(self, batch: PricedBatch, staged: Staged | None = None) -> Booked:
        """Book the batch, all of it or nothing; what ``stage`` has made of it may be given.

        Raises BehindFenceError or PartitionMovedError where it may not be booked as it is, psycopg.Error where the
        database is away or refuses the data, and RowsMissingError for what cannot be. Nothing is booked then.
        """
        began = time.perf_counter()
        return self._transact(batch, staged)._replace(seconds=time.perf_counter() - began)

    def refuses(self, batch: PricedBatch) -> psycopg.Error | None:
        """Whether the database refuses the batch for its data: booked as ``book`` does it, and rolled back.

        The batch may hold a part of what is covered. Raises as ``book`` does, but not for the data.
        """
        try:
            self._transact(batch, force_rollback=True)
        except REFUSED_DATA as error:
            return error
        return None

    def _transact(self, batch: PricedBatch, staged: Staged | None = None, *, force_rollback: bool = False) -> Booked:
        staged = self.stage(batch) if staged is None else staged
        brought = self._turn_to(staged)
        connection = self._open() if brought is None else brought
        with _transaction(connection, force_rollback=force_rollback):
            # The rows come first, for a server that waits for rows gives up neither for time nor when it is asked to: a
            # worker that is stopped here must not hold a lock yet.
            if brought is None:
                _copy(connection, staged)
            _pass_fence(connection, batch.registry_seq)
            self._advance(connection, batch.covered)
            return self._book(connection, batch, staged)

    def _turn_to(self, staged: Staged) -> Connection[Any] | None:
        """The connection that has these rows in its transaction, if one has; the other is the next batch's then."""
        with self._turn:
            ahead = self._ahead
            # The server ends a transaction that waits: better to begin anew than to meet its end.
            if ahead is None or ahead.staged is not staged or time.monotonic() - ahead.since > IDLE_SECONDS / 2:
                return None
            self._ahead = None if self._connection is None else _Ahead(self._connection, None, ahead.since)
        self._connection = ahead.connection
        return self._connection

    def _advance(self, connection: Connection[Any], covered: Sequence[Covered]) -> None:
        for start in sorted(covered, key=lambda each: self._ids[each.partition]):
            moved = connection.execute(
                """UPDATE ledger.source_partition SET next_offset = %s, updated_at = now()
                   WHERE source_partition_id = %s AND next_offset = %s""",
                (start.end, self._ids[start.partition], start.start),
            )
            if moved.rowcount != 1:
                raise PartitionMovedError(f"partition {start.partition} is not at offset {start.start}")

    def _book(self, connection: Connection[Any], batch: PricedBatch, staged: Staged) -> Booked:
        before = self._insert(connection, staged)
        tally = Tally(batch.elements, staged.firsts, staged.letters, before) if before else staged.tally
        rows = [(self._ids[letter.partition], *_kept(letter)) for letter in tally.dead_letters]
        if rows:
            connection.execute(_INSERT_DEAD_LETTERS, arrays(rows))
        covered = [
            (self._ids[c.partition], c.start, c.end, sum(tally.of(c.partition)), *tally.of(c.partition))
            for c in batch.covered
        ]
        connection.execute(_INSERT_COVERED, arrays(covered))
        write_traces(connection, self._traces(priced.element for priced in tally.recorded))
        add_totals(connection, tally.totals, shard=min(c.partition for c in batch.covered))
        return Booked(len(tally.recorded), len(tally.duplicates), len(rows), tally.by_origin, tally.dead_letters)

    def _insert(self, connection: Connection[Any], staged: Staged) -> dict[UUID, bytes]:
        """Insert the rows; the payload hashes of those of their ids that were booked before."""
        inserted = connection.execute(_INSERT).rowcount if staged.rows else 0
        if inserted == len(staged.firsts):
            return {}
        ours = [
            (entry_id, self._ids[record.partition], record.offset, priced.element.source_index)
            for entry_id, priced in staged.firsts.items()
            for record in (priced.element.record,)
        ]
        before = {entry_id: bytes(digest) for entry_id, digest in connection.execute(_BOOKED_BEFORE, arrays(ours))}
        if inserted + len(before) != len(staged.firsts):
            raise RowsMissingError(f"of {len(staged.firsts)} rows {inserted} are new and {len(before)} were there")
        return before

    def _traces(self, booked: Iterable[Element]) -> Iterator[SourceTrace]:
        for element in booked:
            own, record = element.own_trace, element.record
            if trace := own or record.trace:
                index = OF_THE_RECORD if own is None else element.source_index
                yield SourceTrace(self._ids[record.partition], record.offset, index, str(trace))


@contextmanager
def _transaction(connection: Connection[Any], *, force_rollback: bool) -> Iterator[None]:
    """The one that is open, or a new one, to its end; psycopg's own would nest another in what is open."""
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
    if force_rollback:
        connection.rollback()
    else:
        connection.commit()


def _copy(connection: Connection[Any], staged: Staged) -> None:
    if staged.rows:
        with connection.cursor().copy(_COPY) as copy:
            copy.write(staged.rows)


def _pass_fence(connection: Connection[Any], registry_seq: int) -> None:
    # Two statements: under READ COMMITTED only the second sees what was committed while the first waited.
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
    row = connection.execute("SELECT seq FROM ledger.fence").fetchone()
    if row is None or row[0] > registry_seq:
        raise BehindFenceError(0 if row is None else row[0])


def add_totals(connection: Connection[Any], totals: Totals, *, shard: int) -> None:
    """Advance the metric totals, in one order for all, so that two writers never wait for each other in a ring."""
    rows = [(total.metric, total.labels_json, value) for total, value in sorted(totals.items()) if value]
    if rows:
        connection.execute(_ADD_TOTALS, (shard, *arrays(rows)))
