"""At the start: what earlier runs kept and did not book goes to the new broker, each record once."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from kafka.errors import KafkaError, for_code
from kafka.protocol.admin import CreateTopicsRequest, CreateTopicsResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from schemas.topics import USAGE_EVENTS
from services.local.embedded.journal.batches import record_count, without_first, without_producer
from services.local.embedded.journal.journal import Journal, Owed
from services.local.embedded.journal.notes import Placed, Settled
from services.local.endpoints import LOOPBACK
from services.runtime.logs import logger

_log = logger(__name__)

BookedOffsets = Mapping[tuple[str, int], int]
"""By cluster id and partition of the usage events, the next offset that is not booked."""

_SIZE = struct.Struct(">i")
_ANSWER_SECONDS = 30.0
_PRODUCE_VERSION = 7
_GROUP_ENTRIES_MAX = 64
_GROUP_BYTES = 4 * 1024 * 1024
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
        self._send(request)
        if refusal := _refusal(self._answer(request, CreateTopicsResponse).topics[0].error_code):
            raise refusal

    def produce(self, batches: Sequence[tuple[int, bytes]]) -> list[int | KafkaError]:
        """For each partition's batches, in their order, the offset of the first record, or why they are refused."""
        requests = [_produce_request(partition, records) for partition, records in batches]
        for request in requests:
            self._send(request)
        answers = [self._answer(request, ProduceResponse).responses[0].partition_responses[0] for request in requests]
        return [_refusal(answer.error_code) or int(answer.base_offset) for answer in answers]

    def _send(self, request: Any) -> None:
        request.with_header(correlation_id=next(self._numbers), client_id="byok-journal")
        self._socket.sendall(request.encode(header=True, framed=True))

    def _answer(self, request: Any, answer: Any) -> Any:
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        return answer.decode(self._read(size), version=request.API_VERSION, header=True)

    def _read(self, size: int) -> bytes:
        if len(read := self._answers.read(size)) != size:
            raise ConnectionError("the broker has closed the connection")
        return read


def _produce_request(partition: int, records: bytes) -> ProduceRequest:
    data = ProduceRequest.TopicProduceData.PartitionProduceData(index=partition, records=records)
    return ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=int(_ANSWER_SECONDS * 1000),
        topic_data=[ProduceRequest.TopicProduceData(name=USAGE_EVENTS.name, partition_data=[data])],
        version=_PRODUCE_VERSION,
    )


def _refusal(error_code: int) -> KafkaError | None:
    return for_code(error_code)() if error_code else None


def resend(journal: Journal, broker: Broker, cluster_id: str, booked: BookedOffsets) -> int:
    """Send what is not booked, and note where it lies now; how many records that were.

    An entry that the broker refuses stays in the journal, and is reported: the others are not to wait for it.
    """
    return sum(_resend(journal, broker, cluster_id, booked, group) for group in _groups(journal.owed()))


def _groups(owed: Iterable[Owed]) -> Iterator[list[Owed]]:
    """The entries in bounded groups, since to wait for the answer to each alone would take long."""
    group: list[Owed] = []
    size = 0
    for each in owed:
        group.append(each)
        size += len(each.kept.batches)
        if len(group) == _GROUP_ENTRIES_MAX or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    yield group


def _resend(journal: Journal, broker: Broker, cluster_id: str, booked: BookedOffsets, group: Sequence[Owed]) -> int:
    records = [record_count(owed.kept.batches) for owed in group]
    done = [_booked_records(owed, booked, count) for owed, count in zip(group, records, strict=True)]
    parts = list(zip((owed.kept for owed in group), records, done, strict=True))
    left = [(kept, count, first) for kept, count, first in parts if first < count]
    answers = broker.produce([(kept.partition, _rest(kept.batches, first)) for kept, _, first in left])
    notes: list[Placed | Settled] = [Settled(kept.entry) for kept, count, first in parts if first == count]
    sent = 0
    for (kept, count, first), answer in zip(left, answers, strict=True):
        if isinstance(answer, KafkaError):
            _log.error(
                "an entry of the journal is refused by the broker and stays", entry=kept.entry, error=str(answer)
            )
            continue
        notes.append(Placed(kept.entry, answer - first, cluster_id))
        sent += count - first
    journal.write(notes)
    return sent


def _booked_records(owed: Owed, booked: BookedOffsets, records: int) -> int:
    """How many of the entry's first records are booked, by the run that came farthest."""
    reached = [
        booked.get((place.cluster_id, owed.kept.partition), place.first_offset) - place.first_offset
        for place in owed.places
    ]
    return min(records, max([0, *reached]))


def _rest(batches: bytes, done: int) -> bytes:
    if not done:
        return without_producer(batches)
    try:
        return without_first(batches, done)
    except Exception as error:  # noqa: BLE001  # whatever aiokafka meets in bytes that nobody can read
        # Nobody can count in it, neither can metering: it is one dead letter, and comes again as a whole.
        _log.warning("a batch that was booked in part cannot be read, and is sent again", error=type(error).__name__)
        return without_producer(batches)
