"""When bytes are given up: not before they have been read again, and then only they."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from services.runtime.record_log import read_tolerantly, tolerant, unreadable_because
from services.runtime.record_log.batches import Reading
from tests.kafka.raw_batches import batch, changed
from tests.patience import PATIENCE_SECONDS

GOOD = batch([b"one", b"two"])
BROKEN = changed(GOOD, crc=1)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerant, "_AGAIN_SECONDS", 0.0)


def _fetched(*answers: dict[int, bytes]) -> list[dict[int, bytes]]:
    """What a consumer is given when the broker answers so, by partition."""

    async def fetch() -> list[dict[int, bytes]]:
        consumer = AIOKafkaConsumer()
        coming = iter(answers)

        async def send(_node: int, _request: Any) -> Any:
            partitions = [(partition, 0, 2, 2, 0, [], data) for partition, data in next(coming).items()]
            return SimpleNamespace(API_VERSION=5, topics=[("t", partitions)])

        consumer._client.send = send
        read_tolerantly(consumer)
        given = []
        for answer in answers:
            request = FetchRequest(100, 1, 1_000, 1, [("t", [(partition, 0, 1_000) for partition in answer])])
            response = await consumer._client.send(0, request)
            given.append({each[0]: each[-1] for _topic, partitions in response.topics for each in partitions})
        await consumer.stop()
        return given

    return asyncio.run(fetch())


def _why(data: bytes) -> list[str | None]:
    return [unreadable_because(record.headers) for record in MemoryRecords(data).next_batch()]


def test_bytes_that_were_damaged_on_their_way_are_read_again() -> None:
    assert _fetched({0: BROKEN}, {0: BROKEN}, {0: GOOD}) == [{0: b""}, {0: b""}, {0: GOOD}]


def test_bytes_that_stay_broken_are_given_up_with_their_place_and_why() -> None:
    *before, last = _fetched({0: BROKEN}, {0: BROKEN}, {0: BROKEN})
    assert before == [{0: b""}, {0: b""}]
    assert _why(last[0]) == ["the batch of offsets 0 to 1 cannot be read: its checksum is wrong"] * 2


def test_other_partitions_are_read_meanwhile() -> None:
    given = _fetched({0: BROKEN, 1: GOOD}, {0: BROKEN, 1: b""}, {1: GOOD, 0: BROKEN})
    assert [each[1] for each in given] == [GOOD, b"", GOOD]
    assert len(_why(given[-1][0])) == 2


def test_nobody_can_send_a_record_that_passes_for_one_that_cannot_be_read() -> None:
    assert unreadable_because([("unreadable", b"so they say")]) is None
    assert unreadable_because(()) is None


def test_heartbeats_go_on_while_bytes_are_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = threading.Event()
    heard: list[bool] = []

    def slowly(data: bytes, _offset: int, _end: int) -> Reading:
        heard.append(heartbeat.wait(PATIENCE_SECONDS))
        return Reading(data, None)

    async def fetch() -> None:
        consumer = AIOKafkaConsumer()
        begun = asyncio.Event()

        async def send(_node: int, _request: Any) -> Any:
            begun.set()
            return SimpleNamespace(API_VERSION=5, topics=[("t", [(0, 0, 2, 2, 0, [], GOOD)])])

        async def beat() -> None:
            await begun.wait()
            heartbeat.set()

        consumer._client.send = send
        read_tolerantly(consumer)
        request = FetchRequest(100, 1, 1_000, 1, [("t", [(0, 0, 1_000)])])
        await asyncio.gather(consumer._client.send(0, request), beat())
        await consumer.stop()

    monkeypatch.setattr(tolerant, "readable", slowly)
    asyncio.run(fetch())
    assert heard == [True]
