"""Batches of events on their way to the topic, keyed by organization; every single one is known to have arrived."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from schemas.topics import BATCH_EVENTS_MAX, MESSAGE_BYTES_MAX, USAGE_EVENTS
from services.messages.cloudevents import saying_type
from services.runtime.command_failed import CommandFailed

# A little below what a record may hold, for the key and the framing.
_RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - 50_000
_RECORDS_IN_FLIGHT_MAX = 256
_EVENTS_WAITING_MAX = 20_000
_WAITING_BYTES_MAX = 16_000_000


class SendFailed(Exception):
    """The broker did not acknowledge a record; what was acknowledged before stays."""


class _Future(Protocol):
    def get(self, timeout: float | None = None) -> Any: ...


class Producer(Protocol):
    """The part of KafkaProducer that is used here."""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> _Future:
        """Queue one record."""


class _Batch:
    def __init__(self, since: float) -> None:
        self.events: list[bytes] = []
        self.lines: list[int] = []
        self.size = 2
        self.since = since


class BatchSender:
    """Collects events into one batch per organization, and sends what is full.

    Memory is bounded whatever the file: so many events wait, so many records are in flight, and no more.
    """

    def __init__(
        self,
        producer: Producer,
        batch_events: int,
        *,
        timeout_seconds: float,
        acknowledged: Callable[[Any, Sequence[int]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``batch_events`` 1 to 1,000; 1 sends single events instead of arrays. ``acknowledged`` hears of each record
        where it lies, and from which lines its events are."""
        if not 1 <= batch_events <= BATCH_EVENTS_MAX:
            raise ValueError(f"a batch holds 1 to {BATCH_EVENTS_MAX} events")
        self._producer = producer
        self._batch_events = batch_events
        self._timeout_seconds = timeout_seconds
        self._acknowledged = acknowledged
        self._clock = clock
        self._waiting: dict[str, _Batch] = {}
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._in_flight: deque[tuple[_Future, list[int]]] = deque()
        self.events = 0
        """How many events the broker has acknowledged."""
        self.records = 0
        """In how many records."""

    def add(self, org_id: str, event: bytes, line: int = 0) -> None:
        """Take in one event (JSON), from a line of the file. Raises SendFailed when an earlier one did not arrive."""
        batch = self._waiting.get(org_id)
        if batch is not None and batch.size + len(event) > _RECORD_BYTES_MAX:
            self._send(org_id)
            batch = None
        if batch is None:
            batch = self._waiting[org_id] = _Batch(self._clock())
        batch.events.append(event)
        batch.lines.append(line)
        batch.size += len(event) + 1
        self._waiting_events += 1
        self._waiting_bytes += len(event)
        if len(batch.events) >= self._batch_events:
            self._send(org_id)
        elif self._waiting_events >= _EVENTS_WAITING_MAX or self._waiting_bytes >= _WAITING_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Send what waits, without waiting for the acknowledgement."""
        for org_id in list(self._waiting):
            self._send(org_id)

    def finish(self) -> None:
        """Send what waits and return when everything is acknowledged. Raises SendFailed."""
        self.flush()
        while self._in_flight:
            self._await_oldest()

    def waiting_seconds(self) -> float:
        """For how long the event that has waited longest has been waiting to be sent."""
        oldest = min((batch.since for batch in self._waiting.values()), default=None)
        return 0.0 if oldest is None else self._clock() - oldest

    def _send(self, org_id: str) -> None:
        while len(self._in_flight) >= _RECORDS_IN_FLIGHT_MAX:
            self._await_oldest()
        batch = self._waiting.pop(org_id)
        self._waiting_events -= len(batch.events)
        self._waiting_bytes -= sum(map(len, batch.events))
        value = batch.events[0] if self._batch_events == 1 else b"[" + b",".join(batch.events) + b"]"
        try:
            future = self._producer.send(
                USAGE_EVENTS.name, key=org_id.encode(), value=value, headers=[saying_type(value)]
            )
        except (SendFailed, CommandFailed):
            raise
        except Exception as error:
            raise SendFailed(_reason(error)) from error
        self._in_flight.append((future, batch.lines))

    def _await_oldest(self) -> None:
        future, lines = self._in_flight.popleft()
        try:
            place = future.get(timeout=self._timeout_seconds)
        except Exception as error:
            raise SendFailed(_reason(error)) from error
        self.events += len(lines)
        self.records += 1
        if self._acknowledged is not None:
            self._acknowledged(place, lines)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
