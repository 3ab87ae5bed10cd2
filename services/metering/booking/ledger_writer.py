"""The ledger side of metering: one batch is one transaction (docs/design.md, decisions 5 and 6), in plain SQL.

Lock order, the same everywhere: fence (shared), source partitions by id, entries by entry id. Once the first lock is
held, each statement is sent in one go: no COPY, no pipeline (which ``executemany`` is). A worker can be stopped at any
instant, and a server that waits for the rest of something is not idle: only the end of the transaction's time, or in a
COPY nothing at all, would free its locks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection

from schemas.dead_letters import Reason
from services.books import columns
from services.books import totals as count
from services.books.entry_rows import entry_row
from services.books.locks import FENCE
from services.books.source_traces import OF_THE_RECORD, SourceTrace, write_traces
from services.books.totals import Totals
from services.domain.entries import Entry
from services.domain.usage import UsageEvent
from services.messages.usage_events import Rejection
from services.metering.booking.dead_letters import DeadLetter, dead_letter
from services.metering.booking.pricing import Covered, Element, PricedBatch, PricedElement
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
_COPY = f"COPY staged_charge ({_STAGED}) FROM STDIN"
_INSERT = f"""
INSERT INTO ledger.entry ({_STAGED}, saved_mc) SELECT {_STAGED}, list_mc - charged_mc FROM staged_charge
ORDER BY entry_id ON CONFLICT DO NOTHING RETURNING entry_id
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


# In the order of the columns of a covered range.
_OUTCOMES = ("recorded", "duplicate", "dead_letter")
_kept = attrgetter(*columns.LETTER)


class BehindFenceError(Exception):
    """The batch was priced with less than the fence asks for; ``seq`` says how much is needed."""

    def __init__(self, seq: int) -> None:
        """``seq`` is where the directory must be before the batch is priced again."""
        super().__init__(f"the fence stands at {seq}")
        self.seq = seq


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


class LedgerWriter:
    """Books batches over one connection, which it opens anew after an outage. Not for two threads at once."""

    def __init__(self, dsn: str, cluster_id: str, topic: str) -> None:
        """Positions are kept by cluster id and topic: another cluster's offsets are other offsets."""
        self._dsn = dsn
        self._cluster_id = cluster_id
        self._topic = topic
        self._connection: Connection[Any] | None = None
        self._ids: dict[int, int] = {}

    def close(self) -> None:
        """Let go of the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = connect(self._dsn, "metering", idle_seconds=IDLE_SECONDS)
            connection.execute(_CREATE_STAGING)
            connection.commit()
            self._connection = connection
        return self._connection

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

    def book(self, batch: PricedBatch) -> Booked:
        """Book the batch, all of it or nothing.

        Raises BehindFenceError or PartitionMovedError where it may not be booked as it is, and psycopg.Error where the
        database is away or refuses the data. Nothing is booked then.
        """
        began = time.perf_counter()
        return self._transact(batch)._replace(seconds=time.perf_counter() - began)

    def refuses(self, batch: PricedBatch) -> psycopg.Error | None:
        """Whether the database refuses the batch for its data: booked as ``book`` does it, and rolled back.

        The batch may hold a part of what is covered. Raises as ``book`` does, but not for the data.
        """
        try:
            self._transact(batch, force_rollback=True)
        except REFUSED_DATA as error:
            return error
        return None

    def _transact(self, batch: PricedBatch, *, force_rollback: bool = False) -> Booked:
        connection = self._open()
        firsts = _first_of_each_identity(batch.elements)
        # Made before anything is locked: masking takes its time, and a session that is silent for long is ended.
        letters = [_letter(priced) for priced in batch.elements if priced.entry is None]
        with connection.transaction(force_rollback=force_rollback):
            # The rows come first, for a server that waits for rows gives up neither for time nor when it is asked to: a
            # worker that is stopped here must not hold a lock yet.
            self._stage(connection, firsts)
            _pass_fence(connection, batch.registry_seq)
            self._advance(connection, batch.covered)
            return self._book(connection, batch, firsts, letters)

    def _advance(self, connection: Connection[Any], covered: Sequence[Covered]) -> None:
        for start in sorted(covered, key=lambda each: self._ids[each.partition]):
            moved = connection.execute(
                """UPDATE ledger.source_partition SET next_offset = %s, updated_at = now()
                   WHERE source_partition_id = %s AND next_offset = %s""",
                (start.end, self._ids[start.partition], start.start),
            )
            if moved.rowcount != 1:
                raise PartitionMovedError(f"partition {start.partition} is not at offset {start.start}")

    def _book(
        self,
        connection: Connection[Any],
        batch: PricedBatch,
        firsts: Mapping[UUID, PricedElement],
        letters: Sequence[DeadLetter],
    ) -> Booked:
        new = {row[0] for row in connection.execute(_INSERT)} if firsts else set()
        hashes = _hashes(connection, batch.elements, firsts, new)
        tally = _Tally(batch, firsts, new, hashes, letters)
        rows = [(self._ids[letter.partition], *_kept(letter)) for letter in tally.dead_letters]
        if rows:
            connection.execute(_INSERT_DEAD_LETTERS, arrays(rows))
        covered = [
            (self._ids[c.partition], c.start, c.end, sum(tally.of(c.partition)), *tally.of(c.partition))
            for c in batch.covered
        ]
        connection.execute(_INSERT_COVERED, arrays(covered))
        write_traces(connection, self._traces(firsts[entry_id].element for entry_id in new))
        add_totals(connection, tally.totals, shard=min(c.partition for c in batch.covered))
        return Booked(len(new), tally.duplicates, len(rows), tally.by_origin, tally.dead_letters)

    def _traces(self, booked: Iterable[Element]) -> Iterator[SourceTrace]:
        for element in booked:
            own, record = element.own_trace, element.record
            if trace := own or record.trace:
                index = OF_THE_RECORD if own is None else element.source_index
                yield SourceTrace(self._ids[record.partition], record.offset, index, str(trace))

    def _stage(self, connection: Connection[Any], firsts: Mapping[UUID, PricedElement]) -> None:
        if not firsts:
            return
        with connection.cursor().copy(_COPY) as copy:
            for priced in firsts.values():
                element, record = priced.element, priced.element.record
                place = (self._ids[record.partition], record.offset, element.source_index)
                copy.write_row((*entry_row(_entry(priced), element.payload_hash), *place))


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


def _entry(priced: PricedElement) -> Entry:
    if priced.entry is None:
        raise TypeError("a refused element has no entry")
    return priced.entry


def _first_of_each_identity(elements: Iterable[PricedElement]) -> dict[UUID, PricedElement]:
    firsts: dict[UUID, PricedElement] = {}
    for priced in elements:
        if priced.entry is not None:
            firsts.setdefault(priced.entry.entry_id, priced)
    return firsts


def _hashes(
    connection: Connection[Any],
    elements: Iterable[PricedElement],
    firsts: Mapping[UUID, PricedElement],
    new: set[UUID],
) -> dict[UUID, bytes]:
    """The payload hash that is booked for every charge in the batch. Read after the insert, which waits for others."""
    hashes = {entry_id: firsts[entry_id].element.payload_hash for entry_id in new}
    old = [priced.entry.entry_id for priced in elements if priced.entry and priced.entry.entry_id not in new]
    if old:
        rows = connection.execute(
            "SELECT entry_id, payload_hash FROM ledger.entry WHERE entry_id = ANY(%s)", (sorted(set(old)),)
        )
        hashes.update({entry_id: bytes(digest) for entry_id, digest in rows})
    return hashes


class _Tally:
    """What became of every element of a batch: recorded, a duplicate, or a dead letter."""

    def __init__(
        self,
        batch: PricedBatch,
        firsts: Mapping[UUID, PricedElement],
        new: set[UUID],
        hashes: Mapping[UUID, bytes],
        letters: Sequence[DeadLetter],
    ) -> None:
        self.totals: Totals = Totals()
        self.dead_letters: list[DeadLetter] = []
        self.duplicates = 0
        self._outcomes: Counter[tuple[object, str]] = Counter()
        self._booked: Counter[Origin] = Counter()
        self._by_partition = {covered.partition: dict.fromkeys(_OUTCOMES, 0) for covered in batch.covered}
        for letter in letters:
            self._dead_letter(letter)
        for priced in batch.elements:
            entry = priced.entry
            if entry is None:
                continue
            if entry.entry_id in new and firsts[entry.entry_id] is priced:
                self._book(priced.element.record.partition, entry.event, "recorded")
            elif hashes[entry.entry_id] == priced.element.payload_hash:
                self.duplicates += 1
                self._book(priced.element.record.partition, entry.event, "duplicate")
            else:
                detail = f"id: is already booked with another payload, as entry {entry.entry_id}"
                self._dead_letter(dead_letter(priced.element, Rejection.of(Reason.IDENTITY_CONFLICT, detail)))
        count.events(self.totals, self._outcomes)
        count.charges(self.totals, (_entry(firsts[entry_id]) for entry_id in new))

    def of(self, partition: int) -> tuple[int, ...]:
        """How many events of the partition were recorded, duplicates and dead letters."""
        return tuple(self._by_partition[partition].values())

    @property
    def by_origin(self) -> dict[Origin, Count]:
        """How many events of each organization and source there were, and how many of them are dead letters."""
        refused = Counter(letter.origin for letter in self.dead_letters)
        events = self._booked + refused
        return {origin: Count(events[origin], refused[origin]) for origin in events}

    def _book(self, partition: int, event: UsageEvent, outcome: str) -> None:
        self._booked[Origin(event.org_id, event.source)] += 1
        self._count(partition, event.type.value, outcome)

    def _count(self, partition: int, event_type: object, outcome: str) -> None:
        self._by_partition[partition][outcome] += 1
        self._outcomes[event_type, outcome] += 1

    def _dead_letter(self, letter: DeadLetter) -> None:
        self.dead_letters.append(letter)
        count.dead_letter(self.totals, letter.reason)
        self._count(letter.partition, letter.event_type, "dead_letter")


def _letter(priced: PricedElement) -> DeadLetter:
    if priced.rejection is None:
        raise TypeError("an element without an entry has a rejection")
    return dead_letter(priced.element, priced.rejection)
