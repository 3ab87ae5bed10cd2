"""Lets an aiokafka consumer read a log whatever bytes lie in it.

aiokafka raises where a batch cannot be read, stays before it, and raises again: whoever consumes ends, and ends anew
after every restart. So each answer to a fetch is looked through before aiokafka sees it (``batches``). What cannot be
read is read again first, for bytes may be damaged on their way; then empty records that say why are put in its place.

This relies on three things of aiokafka: that a consumer sends its fetches by ``_client.send(node_id, request)``; that
the request has ``topics`` of ``(topic, [(partition, offset, …)])``; and that the answer has ``topics`` of ``(topic,
[(partition, error, high watermark, …, message set)])``. The tests of this folder fail when one of them changes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest

from services.runtime.logs import logger
from services.runtime.record_log.batches import Reading, readable, stand_in

_log = logger(__name__)

_READS = 3
_AGAIN_SECONDS = 0.2
# Not to be guessed: nobody may send a record that passes for one that cannot be read.
_WHY = f"unreadable-{secrets.token_hex(16)}"

_Place = tuple[str, int]
_Headers = Iterable[tuple[str, bytes | None]]


def read_tolerantly(consumer: AIOKafkaConsumer) -> None:
    """Let ``consumer``, which is not yet started, give empty records in place of those that cannot be read."""
    consumer._client.send = _Fetches(consumer._client.send).send


def unreadable_because(headers: _Headers) -> str | None:
    """Why a record stands for one that cannot be read, by its headers; None for every other record."""
    for name, value in headers or ():
        if name == _WHY:
            return (value or b"").decode()
    return None


class _Fetches:
    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        self._send = send
        self._in_vain: dict[_Place, tuple[int, int]] = {}
        """By partition: an offset at which nothing could be read, and how often it was tried."""
        # Of several brokers' answers one at a time is taken out of its compression: so many are not held at once.
        self._one_at_a_time = asyncio.Lock()

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        response = await self._send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            async with self._one_at_a_time:
                tried = dict(self._in_vain)
                # In a thread, for a few bytes may stand for millions of records: a consumer that sends no heartbeat
                # meanwhile is put out of its group, fetches the same again, and so for ever.
                await asyncio.to_thread(self._look_through, request, response)
                failed = self._in_vain.items() - tried.items()
            if failed:
                await asyncio.sleep(_AGAIN_SECONDS)
        return response

    def _look_through(self, request: Any, response: Any) -> None:
        offsets = {
            (topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, *_rest in partitions
        }
        response.topics = [
            (topic, [self._partition((topic, fetched[0]), offsets, fetched) for fetched in partitions])
            for topic, partitions in response.topics
        ]

    def _partition(self, place: _Place, offsets: dict[_Place, int], fetched: tuple[Any, ...]) -> tuple[Any, ...]:
        _partition, error, end, *rest, data = fetched
        if error or not data:
            return fetched
        return (_partition, error, end, *rest, self._read(place, offsets[place], end, data))

    def _read(self, place: _Place, offset: int, end: int, data: bytes) -> bytes:
        reading = readable(bytes(data), offset, end)
        if reading.data or reading.fault is None:
            self._in_vain.pop(place, None)
            return reading.data
        before, tries = self._in_vain.get(place, (offset, 0))
        tries = tries + 1 if before == offset else 1
        if tries < _READS:
            self._in_vain[place] = (offset, tries)
            return b""
        self._in_vain.pop(place, None)
        return _given_up(place, reading)


def _given_up(place: _Place, reading: Reading) -> bytes:
    fault = reading.fault
    if fault is None:
        raise TypeError("nothing stands in for what can be read")
    topic, partition = place
    _log.error(
        "a batch in the log cannot be read",
        topic=topic,
        partition=partition,
        first_offset=fault.first,
        last_offset=fault.last,
        why=fault.why,
    )
    return stand_in(fault, _WHY)
