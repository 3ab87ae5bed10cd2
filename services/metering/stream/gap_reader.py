"""Reads records that the stream did not deliver, straight from the log.

Kafka's committed offset is only a hint (docs/design.md, decision 5): where the stream stands beyond what is booked, the
records between are fetched here. What the log does not hold there (control records, aborted transactions) is an honest
gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.metering.booking.pricing import Record
from services.metering.stream.record_headers import read_headers
from services.runtime.broker_refusals import awaited_client_options, cause, trouble
from services.runtime.kafka_access import KafkaAccess
from services.runtime.record_log import read_tolerantly

_FETCH_MS = 500


class LogTruncatedError(Exception):
    """The log begins above what is booked: events are lost, and nobody may go on without an operator."""


class GapReader:
    """A consumer without a group for one topic."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        """Connects at its first use."""
        self._kafka = access
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def stop(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def first_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """The first offsets that the log of the partitions still holds. Raises ConnectionError as ``read`` does."""
        with _away():
            return await self._first_offsets(partitions)

    async def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Where the partitions end, up to the first transaction that is open. Raises ConnectionError as ``read``."""
        with _away():
            consumer = await self._started()
            return _by_partition(await consumer.end_offsets(self._places(partitions)))

    async def trouble(self) -> str | None:
        """Why no broker lets us in, in one sentence; None where one does, and where the connection is not secured."""
        return await trouble(self._kafka)

    async def beginnings(self, partitions: Iterable[int], booked: Mapping[int, int]) -> dict[int, int]:
        """Where to go on in each of the partitions: behind what is ``booked``, else where its log begins.

        Raises LogTruncatedError where it begins above what is booked, ConnectionError as ``read``.
        """
        first = await self.first_offsets(partitions)
        for partition, next_offset in booked.items():
            self._require(partition, first[partition], next_offset)
        return {**first, **booked}

    async def _first_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        consumer = await self._started()
        return _by_partition(await consumer.beginning_offsets(self._places(partitions)))

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    async def read(self, partition: int, start: int, end: int) -> list[Record]:
        """The first records of ``[start, end)`` that the log holds; none where it holds none.

        Raises LogTruncatedError where the log begins after ``start``, ConnectionError while the broker is away.
        """
        with _away():
            return await self._read(partition, start, end)

    async def _read(self, partition: int, start: int, end: int) -> list[Record]:
        self._require(partition, (await self._first_offsets([partition]))[partition], start)
        consumer = await self._started()
        topic_partition = TopicPartition(self._topic, partition)
        consumer.assign([topic_partition])
        consumer.seek(topic_partition, start)
        try:
            while True:
                fetched = (await consumer.getmany(topic_partition, timeout_ms=_FETCH_MS)).get(topic_partition, [])
                if fetched:
                    return [to_record(record) for record in fetched if start <= record.offset < end]
                if await consumer.position(topic_partition) >= end:
                    return []
        finally:
            # Else it fetches on, and the next gap waits until the broker has answered what nobody wants: half a second
            # for each gap, and every transaction leaves one.
            consumer.unsubscribe()

    def _require(self, partition: int, first: int, start: int) -> None:
        if first > start:
            raise LogTruncatedError(
                f"{self._topic}/{partition} begins at offset {first}, but only offsets below {start} are booked: "
                f"{first - start} offsets were deleted before they were metered"
            )

    async def _started(self) -> AIOKafkaConsumer:
        async with self._starting:
            return await self._start()

    async def _start(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **await awaited_client_options(self._kafka),
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
            )
            read_tolerantly(consumer)
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer


def _by_partition(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {partition: int(offset) for (_topic, partition), offset in offsets.items()}


@contextmanager
def _away() -> Iterator[None]:
    """Whatever goes wrong with the broker is a matter of waiting."""
    try:
        yield
    except KafkaError as error:
        raise ConnectionError(f"the broker did not answer: {cause(error)}") from error


def to_record(record: object) -> Record:
    """A record of aiokafka's as metering sees it."""
    fields = {name: getattr(record, name) for name in ("partition", "offset", "key", "value")}
    plain = Record(**fields, timestamp=getattr(record, "timestamp", 0) / 1000)
    return read_headers(plain, getattr(record, "headers", ()))
