"""Copies dead letters from the ledger database to their topic, at least once. The rows are the truth."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

import psycopg
from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from psycopg import Connection
from psycopg.rows import namedtuple_row

from schemas.dead_letters import DeadLetterHeaders
from schemas.topics import USAGE_DEAD_LETTERS
from services.books.locks import DEAD_LETTER_RELAY
from services.runtime.background import lead, patiently_until
from services.runtime.broker import kafka_producer
from services.runtime.broker_refusals import cause
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from services.runtime.logs import logger

_log = logger(__name__)

_INTERVAL_SECONDS = 0.2
_BATCH = 500
_MARK = "UPDATE ledger.dead_letter SET relayed_at = now() WHERE dead_letter_id = ANY(%s)"
_BATCH_BYTES = 4 * 1024 * 1024
# Bounded in bytes, too, but for a single one that is larger: whoever sends holds all of a round in memory.
_SELECT = f"""
SELECT dead_letter_id, reason, detail, failed_at, source_offset, source_index, record_key, payload, masked,
  p.topic AS source_topic, p.partition AS source_partition
FROM (
  SELECT *, sum(octet_length(payload)) OVER (ORDER BY dead_letter_id) - octet_length(payload) AS bytes_before
  FROM (SELECT * FROM ledger.dead_letter WHERE relayed_at IS NULL ORDER BY dead_letter_id LIMIT {_BATCH}) next
) round JOIN ledger.source_partition p USING (source_partition_id)
WHERE bytes_before < {_BATCH_BYTES} ORDER BY dead_letter_id
"""


class Sending(NamedTuple):
    """A dead letter on its way."""

    dead_letter_id: int
    future: Any
    """What the producer gave for it; None where it refused it at once, for its size."""


class Marks:
    """Marks what is acknowledged, every few seconds: a round may take long, and its session must not be silent."""

    def __init__(self, connection: Connection[Any], seconds: float) -> None:
        """``seconds`` is how long nothing may be said between two calls."""
        self._connection = connection
        self._seconds = seconds
        self._acknowledged: list[int] = []
        self._said_at = time.monotonic()

    def add(self, dead_letter_id: int) -> None:
        """Mark this one, soon."""
        self._acknowledged.append(dead_letter_id)

    def write_if_due(self) -> None:
        """Write what there is, be it nothing, when the last time was too long ago."""
        if time.monotonic() - self._said_at > self._seconds:
            self.write()

    def write(self) -> None:
        """Write what there is."""
        self._connection.execute(_MARK, (self._acknowledged,))
        self._acknowledged = []
        self._said_at = time.monotonic()


class DeadLetterRelay:
    """Sends what is not yet sent, for as long as it is the one that does."""

    def __init__(self, ledger_dsn: str, access: KafkaAccess, timeout_seconds: float) -> None:
        """One relay works at a time, by an advisory lock; the next takes over when its session ends."""
        self._dsn = ledger_dsn
        self._kafka = access
        self._timeout_seconds = timeout_seconds

    def run(self, stop: threading.Event) -> None:
        """Relay until ``stop`` is set; waits for a database or a broker that is away."""
        patiently_until(stop, partial(self._session, stop), _away)

    def _session(self, stop: threading.Event) -> None:
        # While the broker takes its time for one dead letter nothing is asked here; whoever is silent for longer was
        # stopped.
        silent = 2 * math.ceil(self._timeout_seconds)
        session = connect(self._dsn, "metering-dead-letters", autocommit=True, silent_seconds=silent)
        with closing(session) as connection:
            if lead(connection, DEAD_LETTER_RELAY, stop):
                self._work(connection, stop)

    def _work(self, connection: Connection[Any], stop: threading.Event) -> None:
        producer = kafka_producer(
            self._kafka, "byok-dead-letters", USAGE_DEAD_LETTERS.name, timeout_seconds=self._timeout_seconds
        )
        try:
            while not stop.is_set():
                if not self._relay(connection, producer):
                    stop.wait(_INTERVAL_SECONDS)
        finally:
            producer.close(timeout=1)

    def _relay(self, connection: Connection[Any], producer: KafkaProducer) -> bool:
        rows = connection.cursor(row_factory=namedtuple_row).execute(_SELECT).fetchall()
        marks = Marks(connection, self._timeout_seconds / 2)
        sending: list[Sending] = []
        try:
            for row in rows:
                sending.append(_send(producer, row))
                marks.write_if_due()
        finally:
            self._mark(sending, marks)
        return bool(rows)

    def _mark(self, sending: Iterable[Sending], marks: Marks) -> None:
        """Mark all that the broker has, also when it does not take others. Raises KafkaError then."""
        failure: KafkaError | None = None
        for each in sending:
            try:
                self._wait_for(each)
                marks.add(each.dead_letter_id)
            except KafkaError as error:
                failure = error
            marks.write_if_due()
        marks.write()
        if failure is not None:
            raise failure

    def _wait_for(self, sending: Sending) -> None:
        try:
            if sending.future is not None:
                sending.future.get(self._timeout_seconds)
        except (RecordListTooLargeError, MessageSizeTooLargeError):
            _say_too_large(sending.dead_letter_id)


def _away(error: Exception) -> None:
    if not isinstance(error, (psycopg.Error, KafkaError)):
        raise error
    _log.warning("dead letters wait for what is away", error=cause(error))


def _send(producer: KafkaProducer, row: Any) -> Sending:
    try:
        future = producer.send(USAGE_DEAD_LETTERS.name, value=row.payload, key=row.record_key, headers=_headers(row))
    except MessageSizeTooLargeError:
        _say_too_large(row.dead_letter_id)
        future = None
    return Sending(row.dead_letter_id, future)


def _say_too_large(dead_letter_id: int) -> None:
    # The row is the truth and keeps it; a copy that no broker takes must not hold up the others.
    _log.error("a dead letter is too large for its topic", dead_letter_id=dead_letter_id)


def _headers(row: Any) -> Sequence[tuple[str, bytes]]:
    headers = DeadLetterHeaders(
        reason=row.reason,
        detail=row.detail,
        source_topic=row.source_topic,
        source_partition=row.source_partition,
        source_offset=row.source_offset,
        source_index=row.source_index,
        failed_at=row.failed_at.astimezone(UTC),
        masked="true" if row.masked else None,
    )
    return [(name, str(value).encode()) for name, value in headers.model_dump(mode="json", exclude_none=True).items()]
