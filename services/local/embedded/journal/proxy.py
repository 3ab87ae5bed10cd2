"""The proxy before the broker: a usage record goes on only when it is on the disk, and its place is noted.

Everything else passes as it is. So whatever the broker acknowledges, to whomever, outlasts the broker.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from kafka.protocol.producer import ProduceRequest, ProduceResponse

from schemas.topics import USAGE_EVENTS
from services.local.embedded.journal.batches import record_count
from services.local.embedded.journal.group_commit import GroupCommit
from services.local.embedded.journal.notes import Kept, Placed, Settled
from services.local.endpoints import LOOPBACK
from services.runtime.logs import logger

_log = logger(__name__)

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")
_ANSWER = struct.Struct(">ii")
_FRAME_BYTES_MAX = 100 * 1024 * 1024
BUFFER_BYTES = 1024 * 1024
"""What is read ahead from each side: a request of the usual size as a whole."""
# A producer sends five at once; more from one connection wait in its socket.
_IN_FLIGHT_MAX = 16
_LAST_ANSWERS_SECONDS = 10.0
_NO_ACKNOWLEDGEMENT = 0


class UnusableRequestError(Exception):
    """A request that cannot be kept, and so must not be acknowledged: its connection ends."""


class _Produce(NamedTuple):
    """A request with usage records: what its answer is told by, and its entries by partition."""

    version: int
    correlation_id: int
    entries: Mapping[int, int]
    kept: asyncio.Future[None]


class _Request(NamedTuple):
    frame: bytes
    produce: _Produce | None


class JournalProxy:
    """Serves the clients of the broker on 127.0.0.1:``broker_port``."""

    def __init__(self, broker_port: int, cluster_id: str, commit: GroupCommit, *, next_entry: int) -> None:
        self._broker_port = broker_port
        self._cluster_id = cluster_id
        self._commit = commit
        self._numbers = itertools.count(next_entry)
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, to its end."""
        try:
            broker = await asyncio.open_connection(LOOPBACK, self._broker_port, limit=BUFFER_BYTES)
        except OSError:
            writer.close()
            return
        connection = _Connection((reader, writer), broker, self._cluster_id, self._commit, self._numbers)
        task = asyncio.create_task(connection.run())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def stop(self) -> None:
        """End every connection, and return when what is known of its records is written."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        with suppress(OSError):
            await self._commit.write([])


class _Connection:
    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        cluster_id: str,
        commit: GroupCommit,
        numbers: itertools.count[int],
    ) -> None:
        self._from_client, self._to_client = client
        self._from_broker, self._to_broker = broker
        self._cluster_id = cluster_id
        self._commit = commit
        self._numbers = numbers
        self._requests: asyncio.Queue[_Request | None] = asyncio.Queue(_IN_FLIGHT_MAX)
        self._awaited: dict[int, _Produce] = {}
        """The requests that the broker has, by correlation id."""
        self._drained = asyncio.Event()
        """Set while it has none."""
        self._without_outcome: set[int] = set()
        """The entries of which nobody knows what became."""

    async def run(self) -> None:
        """Until either side is gone, or a request was refused."""
        forwarding, answering = asyncio.create_task(self._forward()), asyncio.create_task(self._answer())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._read_requests()), forwarding, answering]
        try:
            await asyncio.wait((forwarding, answering), return_when=asyncio.FIRST_COMPLETED)
            if self._awaited and not answering.done():
                # The client is gone, or was refused something. Where the broker puts what it has got is still news.
                tasks.append(asyncio.create_task(self._drained.wait()))
                await asyncio.wait(tasks[-2:], timeout=_LAST_ANSWERS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    _log.error("a connection ended by a fault", exc_info=ended)
            # Whoever sent these was not told that they are acknowledged.
            self._note([Settled(entry) for entry in self._without_outcome])
            self._to_broker.close()
            self._to_client.close()

    async def _read_requests(self) -> None:
        try:
            while True:
                frame = await self._next_request()
                await self._requests.put(_Request(frame, self._keep(frame)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except UnusableRequestError as error:
            _log.warning("a connection is ended for a request that cannot be kept", detail=str(error))
        await self._requests.put(None)

    async def _next_request(self) -> bytes:
        head = await self._from_client.readexactly(_SIZE.size)
        (size,) = _SIZE.unpack(head)
        if not _REQUEST.size <= size <= _FRAME_BYTES_MAX:
            raise UnusableRequestError("its size is none that a request has")
        return head + await self._from_client.readexactly(size)

    def _keep(self, frame: bytes) -> _Produce | None:
        """Begin to write the usage records of a produce request; None where it has none that will be acknowledged."""
        api_key, version, correlation_id = _REQUEST.unpack_from(frame, _SIZE.size)
        if api_key != ProduceRequest.API_KEY:
            return None
        batches = _usage_batches(frame, version)
        if not batches:
            return None
        kept = [Kept(next(self._numbers), partition, records) for partition, records in batches.items()]
        entries = {each.partition: each.entry for each in kept}
        self._without_outcome.update(entries.values())
        return _Produce(version, correlation_id, entries, self._commit.write(kept))

    async def _forward(self) -> None:
        """Hand the requests on in their order, each when it is kept; end where one is not."""
        with suppress(OSError):
            while (request := await self._requests.get()) is not None:
                if request.produce is not None:
                    await request.produce.kept
                    self._awaited[request.produce.correlation_id] = request.produce
                    self._drained.clear()
                self._to_broker.write(request.frame)
                await self._to_broker.drain()

    async def _answer(self) -> None:
        """Hand the answers on; to the end of those that are awaited, when the client is gone."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await self._from_broker.readexactly(_ANSWER.size)
                size, correlation_id = _ANSWER.unpack(head)
                left = size - (_ANSWER.size - _SIZE.size)
                if (produce := self._awaited.get(correlation_id)) is not None:
                    head += await self._from_broker.readexactly(left)
                    left = 0
                    self._learn(produce, head)
                await self._tell(head)
                while left:
                    chunk = await self._from_broker.read(min(left, BUFFER_BYTES))
                    if not chunk:
                        return
                    left -= len(chunk)
                    await self._tell(chunk)

    async def _tell(self, answer: bytes) -> None:
        if self._to_client.is_closing():
            return
        with suppress(OSError):
            self._to_client.write(answer)
            await self._to_client.drain()

    def _learn(self, produce: _Produce, answer: bytes) -> None:
        """Note what became of the entries of a request."""
        response = ProduceResponse.decode(answer[_SIZE.size :], version=produce.version, header=True)
        notes: list[Placed | Settled] = []
        for topic in response.responses:
            for partition in topic.partition_responses if topic.name == USAGE_EVENTS.name else ():
                entry = produce.entries[partition.index]
                placed = Placed(entry, partition.base_offset, self._cluster_id)
                notes.append(Settled(entry) if partition.error_code else placed)
        self._note(notes)
        del self._awaited[produce.correlation_id]
        if not self._awaited:
            self._drained.set()

    def _note(self, notes: Sequence[Placed | Settled]) -> None:
        if notes:
            self._without_outcome.difference_update(note.entry for note in notes)
            self._commit.write(notes)


def _usage_batches(frame: bytes, version: int) -> dict[int, bytes]:
    """By partition, the usage records that a produce request wants acknowledged. Raises UnusableRequestError."""
    try:
        request = ProduceRequest.decode(frame[_SIZE.size :], version=version, header=True)
        if request.acks == _NO_ACKNOWLEDGEMENT:
            return {}
        batches = {
            partition.index: bytes(partition.records)
            for topic in request.topic_data
            if topic.name == USAGE_EVENTS.name
            for partition in topic.partition_data
            if partition.records
        }
        for records in batches.values():
            record_count(records)
    except Exception as error:  # whatever the library meets in bytes that are no request
        raise UnusableRequestError(f"it cannot be read: {type(error).__name__}") from error
    return batches
