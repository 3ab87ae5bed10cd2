"""The one use case of metering: take records, and return only when they are booked.

Never skips and never raises for its surroundings: what is away is waited for, what another worker has booked is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

import psycopg
from structlog.contextvars import bound_contextvars

from schemas.dead_letters import Reason
from schemas.topics import USAGE_EVENTS
from services.domain.directory import Directory
from services.messages.usage_events import Rejection
from services.metering.booking.ledger_writer import (
    REFUSED_DATA,
    BehindFenceError,
    Booked,
    LedgerWriter,
    PartitionMovedError,
    Position,
)
from services.metering.booking.pricing import (
    Covered,
    Element,
    PricedBatch,
    PricedElement,
    ReadRecord,
    Record,
    price_batch,
    read_elements,
)
from services.metering.booking.staging import Staged
from services.metering.booking.told import DeadLetterLines, identity_of, places_of, traces_of
from services.metering.dead_letters.share import Count, Origin
from services.runtime.background import patiently
from services.runtime.database import is_outage
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger
from services.runtime.spans import SpanKind, records_spans, span
from services.runtime.trace_context import TraceContext

_log = logger(__name__)

_MESSAGING = {
    "messaging.system": "kafka",
    "messaging.destination.name": USAGE_EVENTS.name,
    "messaging.operation.type": "process",
}

# Dead letters hold the bytes of their records, and are written while the fence and the partitions are locked.
_CHUNK_BYTES_MAX = 4 * 1024 * 1024


class Log(Protocol):
    """What the handler needs of the log besides the records that it is given."""

    async def first_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """The first offsets that the partitions still hold."""

    async def read(self, partition: int, start: int, end: int) -> list[Record]:
        """The first records of ``[start, end)``."""


class Knowledge(Protocol):
    """The directory, and how to wait for more of it."""

    directory: Directory

    async def reaches(self, seq: int) -> None:
        """Wait until the directory knows the change ``seq``."""


class Gate(Protocol):
    """Where every transaction waits while metering is paused, and which hears of every one."""

    async def wait_free(self) -> None:
        """Return when nothing is paused."""

    async def note(self, by_origin: Mapping[Origin, Count]) -> None:
        """Take note of what became of the events of a transaction."""


class BookRecords:
    """Books records in order, each once, whatever is delivered again, away, or another worker's."""

    def __init__(
        self,
        writer: LedgerWriter,
        knowledge: Knowledge,
        log: Log,
        gate: Gate,
        *,
        clock: Callable[[], datetime],
        events_max: int,
        on_booked: Callable[[Sequence[ReadRecord], Booked], None],
    ) -> None:
        """``events_max`` bounds a transaction; a single record may exceed it."""
        self._writer = writer
        self._knowledge = knowledge
        self._log = log
        self._gate = gate
        self._clock = clock
        self._events_max = events_max
        self._on_booked = on_booked
        self._positions: dict[int, Position] = {}
        self.failure = LastFailure("booking")
        """Whether the last transaction failed, and is tried again."""
        self._dead_letter_lines = DeadLetterLines()
        self._one_at_a_time = asyncio.Lock()
        # One thread, so that transactions of one connection never run side by side; and one for the rows of the next.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-writer")
        self._thread_ahead = ThreadPoolExecutor(1, thread_name_prefix="ledger-rows-ahead")

    @property
    def booked_offsets(self) -> dict[int, int]:
        """The next offset of every partition at work."""
        return {partition: position.next_offset for partition, position in self._positions.items()}

    def forget_positions(self) -> None:
        """Partitions may have changed hands: read anew how far they are booked."""
        self._positions.clear()

    async def positions(self, partitions: Sequence[int]) -> dict[int, int]:
        """How far the partitions are booked; waits for the database. Partitions of which nothing is are left out."""
        found: dict[int, Position] = await self._patiently(partial(self._in_thread, self._writer.positions, partitions))
        self._positions |= found
        return {partition: position.next_offset for partition, position in found.items()}

    async def __call__(self, records: Sequence[Record]) -> None:
        """Book the records. Raises only where nobody may go on, such as LogTruncatedError.

        Of calls at the same time, the first is first; the others have begun to read and price meanwhile.
        """
        now = self._clock()
        await self._patiently(partial(self._learn_positions, {record.partition for record in records}))
        # Read as it is needed: what hundreds of full batches hold would not fit into memory at once.
        chunks = _chunks((read_elements(record, now) for record in records), self._events_max)
        ready = self._ready(next(chunks, None))
        # Beside the wait for the turn, which is given in the order in which calls begin to wait.
        bringing = asyncio.create_task(self._bring(ready)) if self._one_at_a_time.locked() else None
        async with self._one_at_a_time:
            if bringing is not None:
                await bringing
            while ready is not None:
                booking = asyncio.create_task(self._book_named(ready))
                await asyncio.sleep(0)
                # While the database works on this chunk, the next one is read and priced, and the one before is let go
                # of: to take thousands of objects apart takes milliseconds, for which the database would wait.
                _before, ready = ready, self._ready(next(chunks, None))
                await self._bring(ready)
                await booking

    def _ready(self, chunk: Sequence[ReadRecord] | None) -> _Ready | None:
        """The chunk, priced and staged ahead where its partitions are known; it is booked as it is, or priced anew."""
        if chunk is None:
            return None
        is_known = all(read.record.partition in self._positions for read in chunk)
        return _Ready(chunk, *(self._price(chunk) if is_known else (None, None)))

    def _price(self, chunk: Sequence[ReadRecord]) -> tuple[PricedBatch, Staged]:
        batch = price_batch((), chunk, self._knowledge.directory)
        return batch, self._writer.stage(batch)

    async def _bring(self, ready: _Ready | None) -> None:
        """Have the rows brought to the database ahead of their turn."""
        if ready is None or ready.staged is None:
            return
        # Where the database is away, whoever books waits for it, says so, and brings the rows.
        with suppress(psycopg.Error, OSError):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread_ahead, self._writer.bring, ready.staged)

    async def _book_named(self, ready: _Ready) -> None:
        """Book the records; every line that is logged meanwhile says which they are."""
        with bound_contextvars(**places_of(ready.chunk)):
            await self._patiently(partial(self._book, ready))

    async def _book(self, ready: _Ready) -> None:
        chunk = ready.chunk
        await self._learn_positions({read.record.partition for read in chunk})
        pending: list[ReadRecord] = []
        expected: dict[int, int] = {}
        for read in chunk:
            partition, offset = read.record.partition, read.record.offset
            due = expected.get(partition, self._next_offset(partition))
            if offset < due:
                continue
            if offset > due:
                await self._commit(pending)
                pending = []
                await self._fill(partition, offset)
            pending.append(read)
            expected[partition] = offset + 1
        # What is left out, or comes in between, is another chunk than the one that was priced.
        await self._commit(pending, ready if len(pending) == len(chunk) else None)

    async def _fill(self, partition: int, end: int) -> None:
        """Book what the log holds between what is booked and ``end``, and was not delivered."""
        while missing := await self._log.read(partition, self._next_offset(partition), end):
            _log.warning("records fetched that were not delivered", partition=partition, records=len(missing))
            read = (read_elements(record, self._clock()) for record in missing)
            for part in _chunks(read, self._events_max):
                await self._commit(part)

    def _next_offset(self, partition: int) -> int:
        position = self._positions.get(partition)
        if position is None:
            raise PartitionMovedError(f"partition {partition} was taken away")
        return position.next_offset

    async def _learn_positions(self, partitions: set[int]) -> None:
        unknown = sorted(partitions - self._positions.keys())
        if not unknown:
            return
        found = await self._in_thread(self._writer.positions, unknown)
        new = [partition for partition in unknown if partition not in found]
        if new:
            origins = await self._log.first_offsets(new)
            await self._in_thread(self._writer.begin, origins)
            found |= await self._in_thread(self._writer.positions, new)
        # What another call knows by now is as new, or newer.
        self._positions = found | self._positions

    async def _commit(self, chunk: Sequence[ReadRecord], ready: _Ready | None = None) -> None:
        """Price and book until the fence lets the batch through; ``ready`` is the same chunk, priced ahead."""
        while chunk:
            await self._gate.wait_free()
            batch, staged = self._priced_now(chunk, ready)
            ready = None
            batch = batch._replace(covered=self._covered(chunk))
            try:
                booked = await self._book_recorded(batch, staged, chunk)
            except BehindFenceError as behind:
                await self._knowledge.reaches(behind.seq)
                continue
            except PartitionMovedError:
                self._positions.clear()
                raise
            if isinstance(booked, _Poison):
                chunk = booked.taken_out_of(chunk)
                continue
            self._advance(batch.covered)
            self._dead_letter_lines.write(booked.refused)
            self._on_booked(chunk, booked)
            await self._gate.note(booked.by_origin)
            return

    def _priced_now(self, chunk: Sequence[ReadRecord], ready: _Ready | None) -> tuple[PricedBatch, Staged]:
        """What was priced ahead, unless more is known of prices by now."""
        if ready is None or ready.batch is None or ready.staged is None:
            return self._price(chunk)
        if ready.batch.registry_seq != self._knowledge.directory.seq:
            return self._price(chunk)
        return ready.batch, ready.staged

    async def _book_recorded(self, batch: PricedBatch, staged: Staged, chunk: Sequence[ReadRecord]) -> Booked | _Poison:
        with span(
            f"{USAGE_EVENTS.name} process", SpanKind.CONSUMER, links=traces_of(chunk) if records_spans() else ()
        ) as part:
            part.says({**_MESSAGING, "messaging.batch.message_count": len(chunk), "byok.events": len(batch.elements)})
            return await self._book_batch(batch, staged, part.context)

    def _advance(self, covered: Sequence[Covered]) -> None:
        for partition, _start, end in covered:
            position = self._positions.get(partition)
            if position is not None:
                self._positions[partition] = position._replace(next_offset=end)

    def _covered(self, chunk: Sequence[ReadRecord]) -> tuple[Covered, ...]:
        firsts = {read.record.partition: read.record.offset for read in reversed(chunk)}
        for partition, first in firsts.items():
            # While the chunk waited, the partition may have been another worker's for a time.
            if first < self._next_offset(partition):
                raise PartitionMovedError(f"partition {partition} was booked on from offset {first}")
        ends = {read.record.partition: read.record.offset + 1 for read in chunk}
        return tuple(sorted(Covered(partition, self._next_offset(partition), end) for partition, end in ends.items()))

    async def _book_batch(self, batch: PricedBatch, staged: Staged, within: TraceContext | None) -> Booked | _Poison:
        """What became of the batch, or the events for which the database refuses it. Raises its error where none is."""
        try:
            with span("ledger commit", parent=within):
                booked: Booked = await self._in_thread(self._writer.book, batch, staged)
        except REFUSED_DATA as error:
            poison = _Poison([priced.element async for priced in self._refused(batch)], error.sqlstate)
            if not poison.can_be_taken_out:
                raise
            _log.error(
                "the database refuses events for their data",
                events=len(poison.elements),
                sqlstate=error.sqlstate,
                first=identity_of(poison.elements[0]),
            )
            return poison
        return booked

    async def _refused(self, batch: PricedBatch) -> AsyncIterator[PricedElement]:
        if await self._in_thread(self._writer.refuses, batch) is None:
            return
        if len(batch.elements) == 1:
            yield batch.elements[0]
            return
        half = len(batch.elements) // 2
        for part in (batch.elements[:half], batch.elements[half:]):
            async for priced in self._refused(batch._replace(elements=part)):
                yield priced

    async def _patiently(self, work: Callable[[], Any]) -> Any:
        done = await patiently(work, self._failed)
        self.failure.over()
        return done

    def _failed(self, error: Exception) -> None:
        if isinstance(error, PartitionMovedError):
            _log.warning("a partition moved on without this worker", detail=str(error))
            return
        if not is_outage(error) and not isinstance(error, OSError):
            raise error
        self._writer.close()
        self.failure.happened(error)
        _log.warning("waiting for what is away", error=type(error).__name__, detail=str(error)[:200])

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class _Ready(NamedTuple):
    """A chunk, and what it comes to as far as that is known before the one in front of it is booked."""

    chunk: Sequence[ReadRecord]
    batch: PricedBatch | None = None
    staged: Staged | None = None


class _Poison(NamedTuple):
    """Events that the database refuses for their data."""

    elements: Sequence[Element]
    sqlstate: str | None

    @property
    def can_be_taken_out(self) -> bool:
        """Whether anything is left to be taken away from any of them."""
        return any(element.record.value is not None for element in self.elements)

    def taken_out_of(self, chunk: Sequence[ReadRecord]) -> list[ReadRecord]:
        """The chunk with these events as dead letters."""
        poison = {id(element) for element in self.elements}
        return [
            read._replace(elements=tuple(self._dead(each) if id(each) in poison else each for each in read.elements))
            for read in chunk
        ]

    def _dead(self, element: Element) -> Element:
        rejection = Rejection(Reason.INVALID_EVENT, f"the event cannot be stored (SQLSTATE {self.sqlstate})")
        # Where it was refused before, not even the dead letter can be stored: then its place alone.
        record = element.record if element.rejection is None else element.record._replace(key=None, value=None)
        return element._replace(record=record, rejection=rejection)


def _chunks(read: Iterable[ReadRecord], events_max: int) -> Iterator[list[ReadRecord]]:
    """The records in order, in parts of bounded numbers of events and of bytes; a record is never split."""
    chunk: list[ReadRecord] = []
    events = size = 0
    for each in read:
        its_size = len(each.record.value or b"")
        if chunk and (events + len(each.elements) > events_max or size + its_size > _CHUNK_BYTES_MAX):
            yield chunk
            chunk, events, size = [], 0, 0
        chunk.append(each)
        events += len(each.elements)
        size += its_size
    if chunk:
        yield chunk
