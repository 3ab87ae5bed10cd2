"""Copies dead letters from the ledger database to their topic, at least once. The rows are the truth."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple, NoReturn

import psycopg
from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from psycopg import Connection
from psycopg.rows import namedtuple_row

from schemas.dead_letters import DeadLetterHeaders
from schemas.topics import USAGE_DEAD_LETTERS
from services.runtime.backoff import delays
from services.runtime.broker import kafka_producer
from services.runtime.database import connect
from services.runtime.logs import logger

_log = logger(__name__)

_RELAY_LOCK = 4_270_004
_INTERVAL_SECONDS = 0.2
_BATCH = 500
_SELECT = f"""
SELECT dead_letter_id, reason, detail, failed_at, source_offset, source_index, record_key, payload, masked,
  p.topic AS source_topic, p.partition AS source_partition
FROM ledger.dead_letter JOIN ledger.source_partition p USING (source_partition_id)
WHERE relayed_at IS NULL ORDER BY dead_letter_id LIMIT {_BATCH}
"""


class Sending(NamedTuple):
    """A dead letter on its way."""

    dead_letter_id: int
    acknowledged: Callable[[], Any]
    """The future of the send; raises where it was refused at once."""


class DeadLetterRelay:
    """Sends what is not yet sent, for as long as it is the one that does."""

    def __init__(self, ledger_dsn: str, bootstrap: str, timeout_seconds: float) -> None:
        """One relay works at a time, by an advisory lock; the next takes over when its session ends."""
        self._dsn = ledger_dsn
        self._bootstrap = bootstrap
        self._timeout_seconds = timeout_seconds

    def run(self, stop: threading.Event) -> None:
        """Relay until ``stop`` is set; waits for a database or a broker that is away."""
        waits = delays()
        while not stop.is_set():
            try:
                # While the broker takes its time nothing is asked here; whoever is silent for longer was stopped.
                silent = 2 * math.ceil(self._timeout_seconds)
                session = connect(self._dsn, "metering-dead-letters", autocommit=True, silent_seconds=silent)
                with closing(session) as connection:
                    self._work(connection, stop)
                    waits = delays()
            except (psycopg.Error, KafkaError) as error:
                _log.warning("dead letters wait for what is away", error=type(error).__name__)
                stop.wait(next(waits))

    def _work(self, connection: Connection[Any], stop: threading.Event) -> None:
        while not stop.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_RELAY_LOCK,)).fetchone()
            if row is not None and row[0]:
                break
            stop.wait(1)
        if stop.is_set():
            return
        producer = kafka_producer(self._bootstrap, "byok-dead-letters", timeout_seconds=self._timeout_seconds)
        try:
            while not stop.is_set():
                if not self._relay(connection, producer):
                    stop.wait(_INTERVAL_SECONDS)
        finally:
            producer.close(timeout=1)

    def _relay(self, connection: Connection[Any], producer: KafkaProducer) -> bool:
        rows = connection.cursor(row_factory=namedtuple_row).execute(_SELECT).fetchall()
        sending = [_send(producer, row) for row in rows]
        producer.flush()
        sent = [each.dead_letter_id for each in sending if self._acknowledged(each)]
        connection.execute("UPDATE ledger.dead_letter SET relayed_at = now() WHERE dead_letter_id = ANY(%s)", (sent,))
        return bool(rows)

    def _acknowledged(self, sending: Sending) -> bool:
        try:
            sending.acknowledged().get(self._timeout_seconds)
        except (RecordListTooLargeError, MessageSizeTooLargeError):
            # The row is the truth and keeps it; a copy that no broker takes must not hold up the others.
            _log.error("a dead letter is too large for its topic", dead_letter_id=sending.dead_letter_id)
        return True


def _send(producer: KafkaProducer, row: Any) -> Sending:
    try:
        future = producer.send(USAGE_DEAD_LETTERS.name, value=row.payload, key=row.record_key, headers=_headers(row))
    except MessageSizeTooLargeError as error:
        return Sending(row.dead_letter_id, partial(_raise, error))
    return Sending(row.dead_letter_id, lambda: future)


def _raise(error: Exception) -> NoReturn:
    raise error


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
