"""One connection of the journal's proxy: what it tells whom, and when; a small server answers as the broker."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager

from kafka.protocol.producer import ProduceRequest, ProduceResponse

from schemas.topics import USAGE_EVENTS
from services.local.embedded.journal.group_commit import GroupCommit
from services.local.embedded.journal.journal import Journal
from services.local.embedded.journal.proxy import JournalProxy
from tests.unit.local.test_journal import batch

VERSION = 7
# For what must not happen: a fault shows itself within it, and what is right never ends it early.
A_WHILE = 0.3


def produce(correlation_id):
    data = ProduceRequest.TopicProduceData.PartitionProduceData(index=0, records=batch(b"x"))
    topic = ProduceRequest.TopicProduceData(name=USAGE_EVENTS.name, partition_data=[data])
    request = ProduceRequest(transactional_id=None, acks=-1, timeout_ms=1000, topic_data=[topic], version=VERSION)
    request.with_header(correlation_id=correlation_id, client_id="c")
    return request.encode(header=True, framed=True)


def answer(correlation_id, offset, error_code=0):
    partition = ProduceResponse.TopicProduceResponse.PartitionProduceResponse(
        index=0, error_code=error_code, base_offset=offset, log_append_time_ms=-1, log_start_offset=0
    )
    topic = ProduceResponse.TopicProduceResponse(name=USAGE_EVENTS.name, partition_responses=[partition])
    response = ProduceResponse(responses=[topic], throttle_time_ms=0, version=VERSION)
    response.with_header(correlation_id=correlation_id)
    return response.encode(header=True, framed=True)


async def frame(reader):
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


@asynccontextmanager
async def connected(folder):
    """A client and a broker with the proxy between them, and the proxy's journal."""
    accepted = asyncio.get_running_loop().create_future()
    broker = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
    commit = GroupCommit(Journal(folder, "c1"))
    writing = asyncio.create_task(commit.run())
    proxy = JournalProxy(broker.sockets[0].getsockname()[1], "c1", commit, next_entry=1)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    client = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield client, await accepted, commit
    finally:
        await proxy.stop()
        for each in (client[1], accepted.result()[1], server, broker):
            each.close()
        writing.cancel()


def entries(folder):
    """The entries that are owed, and where the broker put each."""
    return {o.kept.entry: [place.first_offset for place in o.places] for o in Journal(folder, "later").owed()}


def test_the_broker_is_heard_out_when_the_client_has_left(tmp_path):
    async def scenario():
        async with connected(tmp_path) as (client, broker, commit):
            client[1].write(produce(1))
            await frame(broker[0])
            broker[1].write(answer(1, 40))
            await frame(client[0])
            client[1].write(produce(2))
            await frame(broker[0])
            client[1].close()
            more = asyncio.create_task(broker[0].read(1))
            await asyncio.wait((more,), timeout=A_WHILE)
            assert not more.done()
            broker[1].write(answer(2, 41))
            # Then it hangs up.
            assert await more == b""
            await commit.write([])

    asyncio.run(scenario())
    assert entries(tmp_path) == {1: [40], 2: [41]}


def test_requests_go_on_in_their_order_once_they_are_kept_and_what_the_broker_refuses_is_not_owed(tmp_path):
    async def scenario():
        async with connected(tmp_path) as (client, broker, commit):
            other = struct.pack(">ihhi", 8, 3, 1, 7)
            client[1].write(produce(1) + other + produce(2))
            arrived = [await frame(broker[0]) for _ in range(3)]
            assert [struct.unpack_from(">hhi", each)[2] for each in arrived] == [1, 7, 2]
            # On the disk before the broker has answered anything.
            assert entries(tmp_path) == {1: [], 2: []}
            broker[1].write(answer(2, -1, error_code=10) + answer(1, 5))
            assert [await frame(client[0]) for _ in range(2)] == [
                answer(2, -1, error_code=10)[4:],
                answer(1, 5)[4:],
            ]
            await commit.write([])
            assert entries(tmp_path) == {1: [5]}

    asyncio.run(scenario())


def test_what_cannot_be_kept_never_reaches_the_broker_and_its_client_is_told_nothing(tmp_path):
    folder = tmp_path / "journal"

    async def scenario():
        async with connected(folder) as (client, broker, _):
            folder.rmdir()
            client[1].write(produce(1))
            assert await client[0].read() == b""
            assert await broker[0].read() == b""

    asyncio.run(scenario())


def test_nobody_is_owed_what_the_broker_has_not_answered(tmp_path):
    async def scenario():
        async with connected(tmp_path) as (client, broker, commit):
            client[1].write(produce(1))
            await frame(broker[0])
            broker[1].close()
            assert await client[0].read() == b""
            await commit.write([])

    asyncio.run(scenario())
    assert entries(tmp_path) == {}
