"""At the start: what earlier runs kept and did not book goes to the new broker, each record once."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from kafka.errors import KafkaError, for_code
from kafka.protocol.admin import CreateTopicsRequest, CreateTopicsResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from schemas.topics import USAGE_EVENTS
from services.cli.embedded.journal.batches import record_count, without_first, without_producer
from services.cli.embedded.journal.journal import Journal, Owed
from services.cli.embedded.journal.notes import Placed, Settled
from services.cli.endpoints import LOOPBACK
from services.runtime.logs import logger

_log = logger(__name__)

BookedOffsets = Mapping[tuple[str, int], int]
"""By cluster id and partition of the usage events, the next offset that is not booked."""

_SIZE = struct.Struct(">i")
_ANSWER_SECONDS = 30.0
_PRODUCE_VERSION = 7
_CREATE_TOPICS_VERSION = 4


class Broker:
    """A connection to the broker itself, past the proxy, which does not listen yet."""

    def __init__(self, port: int) -> None:
        """Raises OSError when the broker does not answer."""
        self._socket = socket.create_connection((LOOPBACK, port), timeout=_ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answers.close()
        self._socket.close()

    def create_usage_topic(self) -> None:
        """Raises KafkaError where the broker refuses it."""
        topic = CreateTopicsRequest.CreatableTopic(
            name=USAGE_EVENTS.name,
            num_partitions=USAGE_EVENTS.partitions,
            replication_factor=1,
            assignments=[],
            configs=[
                CreateTopicsRequest.CreatableTopic.CreatableTopicConfig(name=name, value=value)
                for name, value in USAGE_EVENTS.config.items()
            ],
        )
        request = CreateTopicsRequest(
            topics=[topic],
            timeout_ms=int(_ANSWER_SECONDS * 1000),
            validate_only=False,
            version=_CREATE_TOPICS_VERSION,
        )
        _require_success(self._ask(request, CreateTopicsResponse).topics[0].error_code)

    def produce(self, partition: int, batches: bytes) -> int:
        """The offset of the first record. Raises KafkaError where the broker refuses them."""
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=int(_ANSWER_SECONDS * 1000),
            topic_data=[
                ProduceRequest.TopicProduceData(
                    name=USAGE_EVENTS.name,
                    partition_data=[
                        ProduceRequest.TopicProduceData.PartitionProduceData(index=partition, records=batches)
                    ],
                )
            ],
            version=_PRODUCE_VERSION,
        )
        answer = self._ask(request, ProduceResponse).responses[0].partition_responses[0]
        _require_success(answer.error_code)
        return int(answer.base_offset)

    def _ask(self, request: Any, answer: Any) -> Any:
        request.with_header(correlation_id=next(self._numbers), client_id="byok-journal")
        self._socket.sendall(request.encode(header=True, framed=True))
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        return answer.decode(self._read(size), version=request.API_VERSION, header=True)

    def _read(self, size: int) -> bytes:
        if len(read := self._answers.read(size)) != size:
            raise ConnectionError("the broker has closed the connection")
        return read


def _require_success(error_code: int) -> None:
    if error_code:
        raise for_code(error_code)


def resend(journal: Journal, broker: Broker, cluster_id: str, booked: BookedOffsets) -> int:
    """Send what is not booked, and note where it lies now; how many records that were.

    An entry that the broker refuses stays in the journal, and is reported: the others are not to wait for it.
    """
    sent = 0
    for owed in journal.owed():
        entry, partition, batches = owed.kept
        records = record_count(batches)
        done = _booked_records(owed, booked, records)
        if done >= records:
            journal.write([Settled(entry)])
            continue
        try:
            offset = broker.produce(partition, _rest(batches, done))
        except KafkaError as error:
            _log.exception("an entry of the journal is refused by the broker and stays", entry=entry, error=str(error))
            continue
        journal.write([Placed(entry, offset - done, cluster_id)])
        sent += records - done
    return sent


def _booked_records(owed: Owed, booked: BookedOffsets, records: int) -> int:
    """How many of the entry's first records are booked, by the run that came farthest."""
    reached = [
        booked.get((place.cluster_id, owed.kept.partition), place.first_offset) - place.first_offset
        for place in owed.places
    ]
    return min(records, max(0, *reached, 0))


def _rest(batches: bytes, done: int) -> bytes:
    if not done:
        return without_producer(batches)
    try:
        return without_first(batches, done)
    except Exception as error:  # noqa: BLE001  # whatever aiokafka meets in bytes that nobody can read
        # Nobody can count in it, neither can metering: it is one dead letter, and comes again as a whole.
        _log.warning("a batch that was booked in part cannot be read, and is sent again", error=type(error).__name__)
        return without_producer(batches)
