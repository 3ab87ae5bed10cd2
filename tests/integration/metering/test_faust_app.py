"""The Faust application on a real broker: where it begins, and what becomes of it when Faust fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaConsumer
from faust.types import TP
from kafka import KafkaConsumer, TopicPartition

from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import Record
from services.metering.settings import StreamSettings
from services.metering.stream.app import LedgerApp, create_faust_app
from services.metering.stream.intake import Book, book_what_comes
from tests.integration.metering.workers import publish
from tests.patience import PATIENCE_SECONDS

_AT_WORK = 2
"""So many batches are booked or priced at a time."""

T = TypeVar("T")


@asynccontextmanager
async def _started(
    broker: str, booked: dict[int, int], book: Book, group: str = "test-faust-app"
) -> AsyncIterator[LedgerApp]:
    """An app of which the ledger says that so much is booked."""
    app = create_faust_app(StreamSettings(kafka_bootstrap=broker, consumer_group=group, metering_batch_records=10))

    async def beginnings(_partitions: Sequence[int]) -> dict[int, int]:
        return booked

    app.beginnings = beginnings
    await app.start()
    booking = asyncio.create_task(book_what_comes(app.intake, book, app.tell_booked))
    try:
        yield app
    finally:
        booking.cancel()
        await asyncio.wait_for(app.stop(), PATIENCE_SECONDS)


def _run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def test_it_begins_where_the_ledger_says_and_seeks_in_the_thread_that_fetches(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seek beside a fetch, in another thread, took the buffer from under it, and Faust fetched nothing any more."""
    partition = USAGE_EVENTS.partitions - 1
    *_, booked_last, next_one = publish(broker, USAGE_EVENTS.name, partition, *[{"number": n} for n in range(5)])
    sought: list[tuple[int, str]] = []
    original = AIOKafkaConsumer.seek

    def seek(self: Any, where: Any, offset: int) -> None:
        sought.append((offset, threading.current_thread().name))
        original(self, where, offset)

    monkeypatch.setattr(AIOKafkaConsumer, "seek", seek)

    async def test() -> Record:
        came: asyncio.Queue[Sequence[Record]] = asyncio.Queue()
        async with _started(broker, {partition: booked_last.offset + 1}, came.put):
            return (await came.get())[0]

    first = _run(test)
    assert (first.partition, first.offset) == (partition, next_one.offset)
    assert booked_last.offset + 1 in [offset for offset, _thread in sought]
    assert threading.main_thread().name not in {thread for _offset, thread in sought}


def test_when_faust_crashes_whoever_waits_for_it_is_told(broker: str) -> None:
    """Else the process lives on, holds its partitions, and books nothing."""

    async def test() -> None:
        async with _started(broker, {}, _never) as app:
            waiting = asyncio.create_task(app.wait_until_it_ends())
            await app.consumer.crash(KeyError("buffer"))
            await waiting

    with pytest.raises(KeyError, match="buffer"):
        _run(test)


def test_while_nothing_can_be_booked_no_more_is_fetched_than_may_wait(broker: str) -> None:
    """Kafka keeps it better; and a worker whose database is away for days must not grow."""
    partition = 0
    publish(broker, USAGE_EVENTS.name, partition, *[{"number": n} for n in range(200)])

    async def test() -> tuple[int, int]:
        taken: list[int] = []

        async def book(records: Sequence[Record]) -> None:
            taken.append(len(records))
            await _never(records)

        async with _started(broker, {}, book, "test-held-back") as app:
            await _until(lambda: len(taken) == _AT_WORK and app.intake.is_full)
            place = await app.consumer.position(TP(USAGE_EVENTS.name, partition))
            # As long as a fetch may take.
            await asyncio.sleep(2)
            assert await app.consumer.position(TP(USAGE_EVENTS.name, partition)) == place
            return place, sum(taken)

    place, taken = _run(test)
    assert taken <= _AT_WORK * 10
    assert place <= taken + 2 * 10


def test_kafka_is_told_what_is_booked_and_nothing_beyond(broker: str) -> None:
    """Whoever watches the group's lag sees the truth; the worker itself does not rely on it."""
    partition = 1
    records = publish(broker, USAGE_EVENTS.name, partition, *[{"number": n} for n in range(25)])
    first, last = records[0].offset, records[-1].offset

    async def test() -> int:
        batches: list[Sequence[Record]] = []

        async def book(batch: Sequence[Record]) -> None:
            # Of the other partitions there is what other tests have sent.
            ours = [record for record in batch if record.partition == partition]
            if any(record.offset > first + 14 for record in ours):
                await _never(ours)
            batches.append(ours)

        async with _started(broker, {partition: first}, book, "test-told") as app:
            await _until(lambda: any(batches))
            while (told := await asyncio.to_thread(_committed, broker, "test-told", partition)) is None:
                await app.consumer.commit()
            return told

    told = _run(test)
    assert first < told <= first + 15 <= last


def test_when_partitions_move_what_waited_is_forgotten_and_each_goes_on_where_it_has_them(broker: str) -> None:
    async def test() -> None:
        came: dict[str, set[int]] = {"one": set(), "two": set()}

        def book(name: str) -> Book:
            async def take(records: Sequence[Record]) -> None:
                came[name] |= {record.partition for record in records}

            return take

        async with _started(broker, {}, book("one"), "test-moved") as one:
            await _until(lambda: len(one.partitions) == USAGE_EVENTS.partitions)
            async with _started(broker, {}, book("two"), "test-moved") as two:
                await _until(lambda: bool(one.partitions and two.partitions and not one.rebalancing))
                assert not set(one.partitions) & set(two.partitions)
                assert sorted([*one.partitions, *two.partitions]) == list(range(USAGE_EVENTS.partitions))
                for known in came.values():
                    known.clear()
                ours = {"one": set(one.partitions), "two": set(two.partitions)}
                for partition in range(USAGE_EVENTS.partitions):
                    publish(broker, USAGE_EVENTS.name, partition, {"number": partition})
                await _until(lambda: set().union(*came.values()) == set(range(USAGE_EVENTS.partitions)))
                assert came == ours

    _run(test)


async def _never(_records: Sequence[Record]) -> None:
    await asyncio.Event().wait()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for happens in another thread
        await asyncio.sleep(0.02)


def _committed(broker: str, group: str, partition: int) -> int | None:
    consumer = KafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
    try:
        committed: int | None = consumer.committed(TopicPartition(USAGE_EVENTS.name, partition))
        return committed
    finally:
        consumer.close()
