"""The Kafka side of POST /v1/usage-events: an event is acknowledged once the broker has it on all in-sync replicas."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.topics import MESSAGE_BYTES_MAX, USAGE_EVENTS
from services.ledger.refusals import Code
from services.ledger.usage_batch import UsageRecord
from services.messages.cloudevents import saying_type
from services.runtime.background import in_background, patiently_until
from services.runtime.broker import kafka_producer
from services.runtime.broker_refusals import NO_ANSWER, cause, trouble
from services.runtime.kafka_access import KafkaAccess, SecurityProtocol
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger
from services.runtime.refusals import Refusal
from services.runtime.spans import Attributes, SpanKind, span
from services.runtime.trace_context import TRACEPARENT, TraceContext, current_trace

_log = logger(__name__)

RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - 2_000
"""What the value of a record may have, so that with its key and headers it stays under what a broker takes."""

_ANSWER_SECONDS_MAX = 9.0
# The producer's own bound is shorter, so that a failed send is known to have failed when we say so.
_SEND_SECONDS_MAX = 4.0
# While the broker is away, requests wait here; the rest of the service must keep threads to answer with.
_WAITING_MAX = 24
_CHECK_SECONDS = 2.0
_CLOSE_SECONDS = 1.0
_FORGOTTEN_SECONDS = 15.0
_RECORDS_SHOWN = 5


def broker_unavailable() -> Refusal:
    """The refusal of a request that the broker did not acknowledge as a whole."""
    return Refusal(
        Code.BROKER_UNAVAILABLE,
        "The broker did not acknowledge all of it in time. Repeat the request as it is: the same ids count once.",
        retry_seconds=2,
    )


class UsagePublisher:
    """Sends records to ``byok.usage-events``. It connects in the background, because a first connection may take long.

    A producer of which a send failed is closed and replaced: a failed send says nothing about the ones after it.
    """

    def __init__(self, access: KafkaAccess) -> None:
        """Connecting begins with ``connected``."""
        self._kafka = access
        self._changed = threading.Condition()
        self._producer: KafkaProducer | None = None
        self._trouble = "still connecting"
        self._stopped = threading.Event()
        self._slots = threading.BoundedSemaphore(_WAITING_MAX)
        self._check_lock = threading.Lock()
        self._checked_at = float("-inf")
        self._check: str | None = None
        # That a broker listens does not say that it can write.
        self._failure = LastFailure("publishing usage events", forgotten_after=_FORGOTTEN_SECONDS)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect, and anew whenever a producer has failed, for as long as the block lasts.

        Nothing is lost at its end: what was acknowledged is with the broker.
        """
        # A first connection that still waits for its broker ends with the process.
        with in_background("usage-publisher", self._keep_connected, stop_seconds=2 * _CLOSE_SECONDS):
            yield
            self._stopped.set()
            with self._changed:
                self._producer = None
                self._changed.notify_all()

    def publish(self, records: Sequence[UsageRecord]) -> None:
        """Return when the broker has acknowledged every record; raises 503 ``broker_unavailable`` within 10 s."""
        deadline = time.monotonic() + _ANSWER_SECONDS_MAX
        if not self._slots.acquire(timeout=_SEND_SECONDS_MAX):
            raise broker_unavailable()
        try:
            producer = self._connected(deadline)
            try:
                with span(f"{USAGE_EVENTS.name} send", SpanKind.PRODUCER, attributes=_told(records)) as part:
                    self._send(producer, records, deadline, part.context or current_trace.get())
            except (KafkaError, OSError, ValueError) as error:
                _log.warning(
                    "usage events were not acknowledged",
                    error=type(error).__name__,
                    topic=USAGE_EVENTS.name,
                    records=[_named(each) for each in records[:_RECORDS_SHOWN]],
                    events=sum(each.events for each in records),
                )
                self._failure.happened(error)
                self._replace(producer)
                raise broker_unavailable() from None
            self._failure.over()
        finally:
            self._slots.release()

    def unready(self) -> str | None:
        """Why nothing can be published now, for /readyz; the broker is asked at most every two seconds."""
        with self._check_lock:
            if time.monotonic() - self._checked_at > _CHECK_SECONDS:
                self._check = self._look()
                self._checked_at = time.monotonic()
            return self._check or self._failure.unready()

    def _look(self) -> str | None:
        if self._producer is None:
            return f"not connected to the broker ({self._trouble})"
        if self._kafka.protocol is SecurityProtocol.PLAINTEXT:
            return None if any(map(_listens, self._kafka.servers)) else NO_ANSWER
        # Whoever connects there and says nothing counts as one who was refused.
        return asyncio.run(trouble(self._kafka))

    def _connected(self, deadline: float) -> KafkaProducer:
        with self._changed:
            patience = min(_SEND_SECONDS_MAX, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._producer is not None or self._stopped.is_set(), patience)
            if self._producer is None:
                raise broker_unavailable()
            return self._producer

    def _send(
        self, producer: KafkaProducer, records: Sequence[UsageRecord], deadline: float, trace: TraceContext | None
    ) -> None:
        traced = [] if trace is None else [(TRACEPARENT, str(trace).encode())]
        futures = [
            producer.send(
                USAGE_EVENTS.name,
                record.value,
                record.org_id.encode(),
                headers=[saying_type(record.value), *traced],
            )
            for record in records
        ]
        for future in futures:
            future.get(max(0.0, deadline - time.monotonic()))

    def _replace(self, failed: KafkaProducer) -> None:
        with self._changed:
            if self._producer is not failed:
                return
            self._producer = None
            self._changed.notify_all()

    def _keep_connected(self, _stop: threading.Event) -> None:
        while (producer := self._connect()) is not None:
            with self._changed:
                # Whoever stops us must find the producer here, or we must see that we are stopped.
                self._producer = None if self._stopped.is_set() else producer
                self._changed.notify_all()
                while self._producer is producer:
                    self._changed.wait()
            _close(producer)

    def _connect(self) -> KafkaProducer | None:
        """A producer, however long it takes; None when we are stopped meanwhile."""
        return patiently_until(self._stopped, self._open, self._not_open, longest_seconds=2.0)

    def _open(self) -> KafkaProducer:
        topic, seconds = USAGE_EVENTS.name, _SEND_SECONDS_MAX
        return kafka_producer(self._kafka, "byok-ledger-ingest", topic, timeout_seconds=seconds)

    def _not_open(self, error: Exception) -> None:
        if not isinstance(error, KafkaError):
            raise error
        self._trouble = cause(error)
        _log.warning("cannot connect to the broker", error=self._trouble)


def _named(record: UsageRecord) -> dict[str, str | int]:
    """The record as log lines name it: by its first event."""
    org_id, source, event_id = record.first
    return {"events": record.events, "organization": org_id, "source": source, "id": event_id}


def _told(records: Sequence[UsageRecord]) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": USAGE_EVENTS.name,
        "messaging.operation.type": "send",
        "messaging.batch.message_count": len(records),
        "byok.events": sum(record.events for record in records),
    }


def _close(producer: KafkaProducer) -> None:
    try:
        producer.close(timeout=_CLOSE_SECONDS)
    except KafkaError as error:
        _log.info("the producer did not close cleanly", error=type(error).__name__)


def _listens(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True
