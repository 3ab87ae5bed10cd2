"""The Faust agent: takes records in batches, and acknowledges them only when they are booked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import faust

from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import Record
from services.metering.stream.app import LedgerApp
from services.metering.stream.record_headers import read_headers

Book = Callable[[Sequence[Record]], Awaitable[None]]


def define_agents(app: LedgerApp, book: Book, *, most: int, linger_seconds: float, fatal: asyncio.Future[None]) -> None:
    """Meter the usage events with ``book``; what it raises goes to ``fatal``, for nobody may go on then."""
    topic = app.topic(USAGE_EVENTS.name, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)

    async def meter(stream: faust.Stream[Any]) -> None:
        async for events in stream.noack_take(most, within=linger_seconds):
            try:
                await book([_record(event) for event in events])
            except Exception as error:  # noqa: BLE001 - whatever it is, raising here would lose what is buffered
                # An agent that raises acks what it has buffered; this one stays, acks nothing, and the process ends.
                if not fatal.done():
                    fatal.set_exception(error)
                await asyncio.Event().wait()
            for event in events:
                await stream.ack(event)

    app.agent(topic, name="meter", concurrency=1)(cast(Any, meter))


def _record(event: Any) -> Record:
    message = event.message
    return read_headers(
        Record(message.partition, message.offset, message.key, message.value, message.timestamp), message.headers
    )
