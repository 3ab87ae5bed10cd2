"""Reads the usage events once more, from the first that the topic still holds: no group, no offsets committed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from services.metering.booking.pricing import Record
from services.metering.stream.gap_reader import to_record
from services.runtime.broker_refusals import BrokerRefused, awaited_client_options
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.kafka_access import KafkaAccess
from services.runtime.record_log import read_tolerantly

_FETCH_MS = 500


class TopicReader:
    """The committed records of some partitions, up to an offset each. Use it with ``async with``."""

    def __init__(self, access: KafkaAccess, topic: str, ends: Mapping[int, int], *, silent_seconds: float) -> None:
        """``ends`` has the offset before which to stop, of one partition at least.

        A broker that is silent for ``silent_seconds`` is away.
        """
        self._topic = topic
        self._ends = {TopicPartition(topic, partition): end for partition, end in ends.items()}
        self._silent_seconds = silent_seconds
        self.begins: dict[int, int] = {}
        """The first offset of each partition that the topic still holds."""
        self.beyond = 0
        """How many offsets the topic holds after ``ends``; known of the partitions that were read."""
        self._kafka = access

    async def __aenter__(self) -> TopicReader:
        """Connect, and find where the partitions begin. Raises CommandFailed where the broker does not answer."""
        try:
            options = await awaited_client_options(self._kafka)
        except KafkaError as error:
            raise _away(error) from None
        self._consumer = AIOKafkaConsumer(
            **options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        read_tolerantly(self._consumer)
        try:
            await self._consumer.start()
            found = await self._consumer.beginning_offsets(list(self._ends))
        except KafkaError as error:
            await self._consumer.stop()
            raise _away(error) from None
        except BaseException:
            await self._consumer.stop()
            raise
        self.begins = {tp.partition: offset for tp, offset in found.items()}
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Let go of the broker."""
        await self._consumer.stop()

    async def first_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Where the partitions begin, as it was found at the start."""
        return {partition: self.begins[partition] for partition in partitions}

    async def read(self, partition: int, start: int, end: int) -> list[Record]:  # noqa: ARG002 - the handler asks so
        """None: whatever the log holds was delivered in its order, so every gap is one of the log itself."""
        return []

    async def records(self) -> AsyncIterator[list[Record]]:
        """All records before the ends, in their order within a partition.

        Raises CommandFailed where the broker does not answer, and where records are deleted before they are read.
        """
        left = {tp for tp, end in self._ends.items() if self.begins[tp.partition] < end}
        self._consumer.assign(sorted(left))
        for tp in left:
            self._consumer.seek(tp, self.begins[tp.partition])
        moved_at = time.monotonic()
        before: dict[TopicPartition, int] = {}
        while left:
            try:
                fetched = await self._consumer.getmany(*left, timeout_ms=_FETCH_MS)
                positions = {tp: await self._consumer.position(tp) for tp in left}
            except OffsetOutOfRangeError as error:
                raise _deleted(error) from None
            except KafkaError as error:
                raise _away(error) from None
            for tp, records in fetched.items():
                yield [to_record(record) for record in records if record.offset < self._ends[tp]]
            if positions != before:
                moved_at, before = time.monotonic(), positions
            elif time.monotonic() - moved_at > self._silent_seconds:
                raise _away(None)
            for tp in [tp for tp in left if positions[tp] >= self._ends[tp]]:
                self.beyond += max(0, (self._consumer.highwater(tp) or 0) - self._ends[tp])
                self._consumer.pause(tp)
                left.remove(tp)


def _away(error: KafkaError | None) -> CommandFailed:
    if isinstance(error, BrokerRefused):
        return CommandFailed(str(error), AWAY)
    why = "it delivers nothing more" if error is None else type(error).__name__
    return CommandFailed(f"the broker does not answer ({why}); check BYOK_KAFKA_BOOTSTRAP", AWAY)


def _deleted(error: OffsetOutOfRangeError) -> CommandFailed:
    (offsets,) = error.args
    where = ", ".join(f"partition {tp.partition} no longer holds offset {offset}" for tp, offset in offsets.items())
    return CommandFailed(f"the topic's retention deleted records before they were read: {where}; begin again", AWAY)
