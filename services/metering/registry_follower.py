"""Follows the registry log: every change is in the ledger database before it is used (docs/design.md, decision 3).

A consumer without a group reads the whole log; a restart reads the table first, for the compacted topic forgets
earlier states. Nothing is priced before both are read to the end and a rate card is known.

A topic that lost a change and is sent again fills the hole when later changes are known and used. What was priced
without it is then rated again, by setting back how far changes are worked off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import REGISTRY_CHANGES
from services.books import registry_log
from services.books.locks import FENCE
from services.books.registry_log import FoldedLog, Recorded
from services.domain.directory import Change, Directory
from services.messages.registry_changes import number_of, read_change, to_change
from services.metering.booking.ledger_writer import IDLE_SECONDS
from services.runtime.background import patiently
from services.runtime.broker_refusals import awaited_client_options, cause
from services.runtime.database import connect, is_outage
from services.runtime.kafka_access import KafkaAccess
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger

_log = logger(__name__)
_PARTITION = TopicPartition(REGISTRY_CHANGES.name, 0)
_FETCH_MS = 100
# What is read is held twice for as long as it is taken in.
_READ_TOGETHER = 5_000


class _Read(NamedTuple):
    """A change as it was read from the topic."""

    seq: int
    key: str
    payload: bytes
    says: Change


def _read(payload: bytes) -> _Read:
    """Raises UnreadableChangeError: what cannot be used must not even be appended."""
    message = read_change(payload)
    return _Read(message.seq, message.key, payload, to_change(message))


class RegistryFollower:
    """Keeps a directory up to date with the registry log."""

    def __init__(self, ledger_dsn: str, access: KafkaAccess, directory: Directory) -> None:
        """``directory`` is only ever changed here, on the event loop."""
        self.directory = directory
        self._log = FoldedLog(directory)
        self.failure = LastFailure("taking in registry changes")
        """Whether the ledger database did not take what was read last, which is tried again."""
        self._dsn = ledger_dsn
        self._kafka = access
        self._advanced = asyncio.Condition()
        self._consumer: AIOKafkaConsumer | None = None

    async def catch_up(self) -> None:
        """Read table and topic to the end, and wait for the first rate card. Waits for what is away."""
        await self._read_table_on()
        self._consumer = await self._start_consumer()
        if self._log.arrival:
            await self._take_in_what_is_new()
            # What another worker appended meanwhile was not new, and is not known here.
            await self._read_table_on()
        else:
            await self._take_in_while_reading()
        while not self.directory.cards:
            await self._read_more()
        _log.info("registry log read", seq=self.directory.seq, rate_cards=len(self.directory.cards))

    async def _take_in_what_is_new(self) -> None:
        """Of all that the topic holds, so that nothing is appended where it holds the log of another registry."""
        new: list[bytes] = []
        while fetched := await self._fetch_many():
            new += await self._patiently(partial(self._unknown, fetched))
        # In a log that was sent again, compaction may have left newer changes before older ones.
        new.sort(key=number_of)
        for start in range(0, len(new), _READ_TOGETHER):
            await self.take_in(new[start : start + _READ_TOGETHER])

    async def _take_in_while_reading(self) -> None:
        """All of the topic, for a table that had nothing. What another worker appends meanwhile is compared with it."""
        ahead = asyncio.create_task(self._read_ahead())
        try:
            while changes := await ahead:
                # The database takes longer with changes than we do to read the next.
                ahead = asyncio.create_task(self._read_ahead())
                await self._use(changes)
        finally:
            ahead.cancel()

    async def follow(self) -> None:
        """Read on, for ever. Raises where the log cannot be trusted any more."""
        while True:
            await self._read_more()

    def copy_of_log(self) -> FoldedLog:
        """What is known by now, for another thread."""
        return self._log.copy()

    async def stop(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def reaches(self, seq: int) -> None:
        """Wait until the directory knows the change ``seq``."""
        async with self._advanced:
            await self._advanced.wait_for(lambda: self.directory.seq >= seq)

    async def _start_consumer(self) -> AIOKafkaConsumer:
        return await patiently(self._open_consumer, _broker_away)

    async def _open_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **await awaited_client_options(self._kafka),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # The embedded broker answers a waiting fetch only when half of this is over.
            fetch_max_wait_ms=_FETCH_MS,
        )
        try:
            await consumer.start()
            consumer.assign([_PARTITION])
            await consumer.seek_to_beginning(_PARTITION)
        except KafkaError:
            await consumer.stop()
            raise
        return consumer

    async def _is_at_end(self) -> bool:
        # The high watermark is known after a fetch; "latest" of ListOffsets is wrong on the embedded broker.
        consumer = self._fetching()
        highwater = consumer.highwater(_PARTITION)
        return highwater is not None and await consumer.position(_PARTITION) >= highwater

    async def _fetch_many(self) -> list[bytes]:
        """What comes next, up to the end; nothing where that is reached."""
        found: list[bytes] = []
        while len(found) < _READ_TOGETHER and not await self._is_at_end():
            found += await self._fetch()
        return found

    def _fetching(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("catch_up comes first")
        return self._consumer

    async def _read_more(self) -> None:
        await self.take_in(await self._fetch())

    async def _fetch(self) -> list[bytes]:
        fetched = await self._fetching().getmany(_PARTITION, timeout_ms=_FETCH_MS, max_records=_READ_TOGETHER)
        return [record.value for records in fetched.values() for record in records if record.value is not None]

    async def take_in(self, payloads: Iterable[bytes]) -> None:
        """Append the changes to the table, then use what it has. Raises UnreadableChangeError or RegistryForkedError.

        A change that fills a hole is worked off by the re-rater again: with the row, should this be the last that is
        heard of this worker, and once it is used here, for what was priced without it until then.
        """
        await self._use([_read(payload) for payload in payloads])

    async def _read_ahead(self) -> list[_Read]:
        """What comes next in the topic; nothing at its end."""
        # In a log that was sent again, compaction may have left newer changes before older ones.
        return [_read(payload) for payload in sorted(await self._fetch_many(), key=number_of)]

    async def _read_table_on(self) -> None:
        while changes := await self._patiently(self._read_table):
            for change in changes:
                self._log.take_in(change)

    async def _use(self, changes: Sequence[_Read]) -> None:
        if not changes:
            return
        recorded = await self._patiently(partial(self._append, changes))
        known, said = self.directory.seq, {change.payload: change.says for change in changes}
        late = [change.seq for change in recorded if self._is_news(change, said) and change.seq < known]
        async with self._advanced:
            self._advanced.notify_all()
        if late:
            _log.warning("changes that were missing from the registry log have come", seqs=late[:10], changes=len(late))
            await self._patiently(lambda: self._set_back(min(late)))

    def _is_news(self, change: Recorded, said: Mapping[bytes, Change]) -> bool:
        """Fold in what the table has; most of that was read just now."""
        says = said.get(change.payload)
        return self._log.take_in(change) is not None if says is None else self._log.apply(change, says)

    async def _patiently(self, work: Any) -> Any:
        """Run ``work`` in a thread; while the database is away, try again."""
        done = await patiently(lambda: asyncio.to_thread(work), self._failed)
        self.failure.over()
        return done

    def _failed(self, error: Exception) -> None:
        if not is_outage(error):
            raise error
        self.failure.happened(error)
        _log.warning("waiting for the ledger database", error=type(error).__name__)

    def _read_table(self) -> list[Recorded]:
        with connect(self._dsn, "metering-follower") as connection:
            return list(islice(registry_log.after(connection, self._log.arrival), _READ_TOGETHER))

    def _unknown(self, payloads: Sequence[bytes]) -> list[bytes]:
        with connect(self._dsn, "metering-follower") as connection:
            return registry_log.unknown(connection, [(number_of(payload), payload) for payload in payloads])

    def _append(self, changes: Iterable[_Read]) -> list[Recorded]:
        session = connect(self._dsn, "metering-follower", idle_seconds=IDLE_SECONDS)
        with session as connection:
            registry_log.append(connection, [(change.seq, change.key, change.payload) for change in changes])
            return list(registry_log.after(connection, self._log.arrival))

    def _set_back(self, late: int) -> None:
        session = connect(self._dsn, "metering-follower", idle_seconds=IDLE_SECONDS)
        with session as connection:
            # After the batches that have passed the fence: what they book is there to be seen by the re-rater.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))
            registry_log.set_back(connection, late)


def _broker_away(error: Exception) -> None:
    if not isinstance(error, KafkaError):
        raise error
    _log.warning("waiting for the broker", error=cause(error))
