"""The Faust application on a real broker: where it begins, and what becomes of it when Faust fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import Record
from services.metering.settings import StreamSettings
from services.metering.stream.agents import define_agents
from services.metering.stream.app import LedgerApp, create_faust_app
from tests.integration.metering.workers import publish

_SECONDS = 30


async def _started(broker: str, booked: dict[int, int], came: asyncio.Queue[Record]) -> LedgerApp:
    """An app of which the ledger says that so much is booked."""
    app = create_faust_app(StreamSettings(kafka_bootstrap=broker, consumer_group="test-faust-app"))

    async def beginnings(_partitions: Sequence[int]) -> dict[int, int]:
        return booked

    async def book(records: Sequence[Record]) -> None:
        for record in records:
            await came.put(record)

    app.beginnings = beginnings
    fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    define_agents(app, book, most=100, linger_seconds=0.01, fatal=fatal)
    await app.start()
    return app


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
        came: asyncio.Queue[Record] = asyncio.Queue()
        app = await _started(broker, {partition: booked_last.offset + 1}, came)
        try:
            return await asyncio.wait_for(came.get(), _SECONDS)
        finally:
            await app.stop()

    first = asyncio.run(asyncio.wait_for(test(), 2 * _SECONDS))
    assert (first.partition, first.offset) == (partition, next_one.offset)
    assert booked_last.offset + 1 in [offset for offset, _thread in sought]
    assert threading.main_thread().name not in {thread for _offset, thread in sought}


def test_when_faust_crashes_whoever_waits_for_it_is_told(broker: str) -> None:
    """Else the process lives on, holds its partitions, and books nothing."""

    async def test() -> None:
        app = await _started(broker, {}, asyncio.Queue())
        waiting = asyncio.create_task(app.wait_until_it_ends())
        await app.consumer.crash(KeyError("buffer"))
        try:
            await asyncio.wait_for(waiting, _SECONDS)
        finally:
            await app.stop()

    with pytest.raises(KeyError, match="buffer"):
        asyncio.run(asyncio.wait_for(test(), 2 * _SECONDS))
