"""Puts registry changes on ``byok.registry-changes`` so that none can overtake another, and tells clusters apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from typing import NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from schemas.topics import REGISTRY_CHANGES
from services.runtime.broker_refusals import Right, client_options, require
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import TopicMissingError

# One record batch holds all that is sent at once, so a send must stay well below it.
_BATCH_BYTES = 1024 * 1024
SEND_BYTES_MAX = _BATCH_BYTES // 4
# A broker that is back is to be found soon: what it misses are prices.
_RECONNECT_MS_MAX = 1_000
_SLICE_SECONDS = 0.2
_PARTITION = TopicPartition(REGISTRY_CHANGES.name, 0)
# What a broker says of a batch that it had before.
_UNKNOWN_OFFSET = -1
_RIGHTS = [Right(operation, "topic", REGISTRY_CHANGES.name) for operation in ("Read", "Write")]


class Destination(NamedTuple):
    """One topic of one cluster; a topic that is made anew under its old name is another one."""

    cluster_id: str
    topic_id: str


class UnsentChange(NamedTuple):
    """One change of the log as it goes onto the topic."""

    seq: int
    key: str
    payload: bytes


class SendInterrupted(Exception):
    """A stop was asked for before the broker had acknowledged what was sent; it may or may not have been written."""


class ChangeSender:
    """One connection to a broker. After any KafkaError close it and open another."""

    def __init__(self, access: KafkaAccess, *, timeout_seconds: float) -> None:
        """Raises KafkaError when the broker cannot be reached."""
        timeout_ms = int(timeout_seconds * 1000)
        self._access = access
        self._allowed = False
        self._timeout_ms = timeout_ms
        self._producer: KafkaProducer | None = None
        self._end: int | None = None
        self._read_to = 0
        self._disturbed = False
        self._admin = KafkaAdminClient(
            **client_options(access),
            client_id="byok-registry-relay",
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
            reconnect_backoff_max_ms=_RECONNECT_MS_MAX,
        )

    def destination(self) -> Destination:
        """Where a send would go now. Raises KafkaError: TopicMissingError where there is no such topic,
        BrokerRefused where we may not write or read it.

        It is not made here: only an operator knows how safe it has to be.
        """
        if not self._allowed:
            require(self._access, self._admin, _RIGHTS)
            self._allowed = True
        (topic,) = self._admin.describe_topics([REGISTRY_CHANGES.name])
        if not topic["partitions"]:
            raise TopicMissingError(REGISTRY_CHANGES.name)
        return Destination(str(self._admin.describe_cluster()["cluster_id"]), str(topic["topic_id"]))

    def send(self, changes: Sequence[UnsentChange], stop: threading.Event) -> None:
        """Send ``changes``, of at most SEND_BYTES_MAX together unless it is one alone, and wait for all of them.

        They go as one record batch, which a broker writes whole or not at all, so within it no hole can come about;
        and nothing more is sent before it is acknowledged. Raises KafkaError, or SendInterrupted on ``stop``.
        """
        producer = self._producer = self._producer or self._open_producer()
        futures = [
            producer.send(REGISTRY_CHANGES.name, key=change.key.encode(), value=change.payload, partition=0)
            for change in changes
        ]
        deadline = time.monotonic() + self._timeout_ms / 1000
        while not all(future.is_done for future in futures):
            if stop.is_set():
                raise SendInterrupted
            if time.monotonic() > deadline:
                raise KafkaTimeoutError("the broker did not acknowledge in time")
            try:
                producer.flush(timeout=_SLICE_SECONDS)
            except KafkaTimeoutError:
                continue
        offsets = [future.get(timeout=0).offset for future in futures]
        if self._end is not None and offsets[0] not in (self._end, _UNKNOWN_OFFSET):
            self._disturbed = True
        self._end = None if offsets[-1] == _UNKNOWN_OFFSET else offsets[-1] + 1

    def is_alone(self) -> bool:
        """Whether the topic ends with what this sender sent last; True before it has sent anything.

        A relay that was stopped in the middle of a send, lost its lock and goes on may still write what newer relays
        have gone beyond; compaction would then keep the older state of a key. Or the topic lost records. Raises
        KafkaError.
        """
        if self._end is None or self._disturbed:
            return not self._disturbed
        # The embedded broker may say less than there is, so less says nothing.
        try:
            return self._said_end() <= self._end
        except UnknownTopicOrPartitionError:
            return False

    @property
    def end_offset(self) -> int | None:
        """Where what was sent last ends on the topic; None before that, and where the broker did not tell."""
        return self._end

    def reaches(self, end_offset: int) -> bool:
        """Whether the topic reaches so far. Raises KafkaError."""
        return self._said_end() >= end_offset or self._high_watermark() >= end_offset

    def _said_end(self) -> int:
        return int(self._admin.list_partition_offsets({_PARTITION: OffsetSpec.LATEST})[_PARTITION].offset)

    def _high_watermark(self) -> int:
        fetched = self._fetched_from(0)
        try:
            return next(end for end, _ in fetched)
        finally:
            fetched.close()

    def records_from(self, offset: int) -> Generator[list[bytes]]:
        """The values of all records from ``offset`` to where the topic ends now, in batches.

        From the first record on where the topic does not reach so far. Raises KafkaError.
        """
        for end, values in self._fetched_from(offset):
            self._read_to = end
            yield values

    def has_more(self) -> bool:
        """Whether the topic goes on behind what this sender read of it, or sent. Raises KafkaError."""
        try:
            return self._said_end() > max(self._read_to, self._end or 0)
        except UnknownTopicOrPartitionError:
            return False

    def _fetched_from(self, offset: int) -> Generator[tuple[int, list[bytes]]]:
        """Where the topic ends, which a fetch says rightly with any broker; and what was fetched."""
        consumer = KafkaConsumer(**client_options(self._access), auto_offset_reset="earliest")
        end, deadline = None, time.monotonic() + self._timeout_ms / 1000
        try:
            consumer.assign([_PARTITION])
            consumer.seek(_PARTITION, offset)
            while end is None or consumer.position(_PARTITION) < end:
                records = consumer.poll(timeout_ms=int(_SLICE_SECONDS * 1000)).get(_PARTITION, [])
                end = consumer.highwater(_PARTITION) if end is None else end
                if records:
                    deadline = time.monotonic() + self._timeout_ms / 1000
                elif time.monotonic() > deadline:
                    raise KafkaTimeoutError("the broker did not say what is on the topic")
                if end is not None:
                    yield end, [record.value for record in records if record.value is not None]
        finally:
            consumer.close()

    def start_over(self) -> None:
        """Forget what was sent, because all of it is sent again."""
        self._end, self._disturbed = None, False

    def close(self) -> None:
        """Give up whatever is not acknowledged."""
        if self._producer is not None:
            self._close(self._producer)
        self._close(self._admin)

    def _open_producer(self) -> KafkaProducer:
        return KafkaProducer(
            **client_options(self._access),
            client_id="byok-registry-relay",
            acks="all",
            enable_idempotence=True,
            max_in_flight_requests_per_connection=1,
            compression_type="gzip",
            # So long that a batch leaves when it is flushed, never when half of it is there.
            linger_ms=self._timeout_ms,
            batch_size=_BATCH_BYTES,
            max_request_size=2 * _BATCH_BYTES,
            max_block_ms=self._timeout_ms,
            delivery_timeout_ms=3 * self._timeout_ms,
            request_timeout_ms=self._timeout_ms,
            reconnect_backoff_max_ms=_RECONNECT_MS_MAX,
        )

    @staticmethod
    def _close(client: KafkaProducer | KafkaAdminClient) -> None:
        try:
            if isinstance(client, KafkaProducer):
                client.close(timeout=0)
            else:
                client.close()
        except (KafkaError, OSError):
            # It was of no use any more.
            return
