"""The journal between clients and the real embedded broker, as a program of its own, beside an empty ledger."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.protocol.producer import ProduceRequest

from schemas.topics import USAGE_EVENTS
from services.local.children import listens
from services.local.embedded.broker import JOURNAL, broker_program, journal_arguments, new_cluster_id
from services.local.embedded.journal.journal import Journal
from services.local.endpoints import Ports
from services.local.processes import Program, StopSwitch, Supervisor
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.real_parts import running_postgres
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.unit.local.test_journal import batch

HEADERS = [("trace", b"1")]


class Kept:
    """A broker and its journal on one folder, ended with kill -9 and started anew as often as a test likes."""

    def __init__(self, folder, database):
        self.folder, self.ports, self.dsn = folder, Ports.free_block(), database.dsn("ledger_service", "ledger")
        self.address = self.ports.address("kafka")
        self.supervisor = None

    def start(self):
        cluster_id = new_cluster_id()
        self.supervisor = Supervisor(self.folder, StopSwitch())
        broker = broker_program(
            self.ports.broker,
            self.folder,
            dict(os.environ),
            advertised_port=self.ports.kafka,
            cluster_id=cluster_id,
        )
        arguments = journal_arguments(self.ports.kafka, self.ports.broker, cluster_id, self.folder / "journal")
        environment = dict(os.environ) | {"BYOK_LEDGER_DSN": self.dsn}
        self._run(broker, self.ports.broker)
        self.journal = self._run(Program("journal", (*JOURNAL, *arguments), environment, self.folder), self.ports.kafka)
        create_topics(KafkaAccess(self.address), replication_factor=1)

    def _run(self, program, port):
        child = self.supervisor.start(program)
        deadline = time.monotonic() + PATIENCE_SECONDS
        self.supervisor.wait_until(lambda: listens(port), deadline, lambda: child.report("does not listen"))
        return child

    def kill(self):
        for child in self.supervisor._children:
            os.kill(child.pid, 9)
        self.supervisor.stop()

    def owed(self):
        """The entries in the journal, and how many places each has."""
        return [(owed.kept, len(owed.places)) for owed in Journal(self.folder / "journal", "nobody").owed()]

    def records(self, how_many):
        """Everything in the topic, once it is so much."""
        partitions = [TopicPartition(USAGE_EVENTS.name, number) for number in range(USAGE_EVENTS.partitions)]
        consumer = KafkaConsumer(bootstrap_servers=self.address, auto_offset_reset="earliest")
        consumer.assign(partitions)
        found = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < how_many and time.monotonic() < deadline:
            found += [record for records in consumer.poll(500).values() for record in records]
        consumer.close()
        return sorted((r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp) for r in found)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as database:
        yield database


@pytest.fixture
def kept(tmp_path, database):
    kept = Kept(tmp_path, database)
    kept.start()
    yield kept
    kept.supervisor.stop()


def publish(address, **settings):
    producer = KafkaProducer(bootstrap_servers=address, **settings)
    sent = [producer.send(USAGE_EVENTS.name, b"%d" % n, b"org-%d" % n, headers=HEADERS) for n in range(20)]
    for each in sent:
        each.get(PATIENCE_SECONDS)
    producer.close(timeout=PATIENCE_SECONDS)


async def publish_beside(address):
    async with AIOKafkaProducer(bootstrap_servers=address, compression_type="gzip") as producer:
        sent = [await producer.send(USAGE_EVENTS.name, b"a%d" % n, b"org-%d" % n, headers=HEADERS) for n in range(20)]
        await asyncio.gather(*sent)


def test_the_same_records_come_again_after_each_kill_and_none_of_another_topic(kept):
    publish(kept.address, acks="all", enable_idempotence=True, compression_type="gzip", linger_ms=20)
    asyncio.run(publish_beside(kept.address))
    producer = KafkaProducer(bootstrap_servers=kept.address)
    producer.send("byok.dead-letters", b"of another topic").get(PATIENCE_SECONDS)
    producer.close(timeout=PATIENCE_SECONDS)
    before = kept.records(40)
    assert len(before) == 40
    for _ in range(2):
        kept.kill()
        kept.start()
        assert kept.records(40) == before


def test_what_nobody_is_told_about_passes_and_is_not_kept(kept):
    producer = KafkaProducer(bootstrap_servers=kept.address, acks=0, enable_idempotence=False)
    producer.send(USAGE_EVENTS.name, b"lost at will", b"org").get(PATIENCE_SECONDS)
    assert len(kept.records(1)) == 1
    producer.close(timeout=PATIENCE_SECONDS)
    assert kept.owed() == []


def test_a_producer_that_does_not_wait_for_its_answer_has_its_records_placed(kept):
    request = ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=1000,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name=USAGE_EVENTS.name,
                partition_data=[
                    ProduceRequest.TopicProduceData.PartitionProduceData(index=3, records=batch(b"x", producer=-1))
                ],
            )
        ],
        version=7,
    )
    with socket.create_connection(("127.0.0.1", kept.ports.kafka), timeout=PATIENCE_SECONDS) as client:
        for correlation_id in (1, 2):
            request.with_header(correlation_id=correlation_id, client_id="impatient")
            client.sendall(request.encode(header=True, framed=True))
            if correlation_id == 1:
                assert client.recv(8)[4:] == struct.pack(">i", 1)
    wait_for("the places of the records", lambda: [places for _, places in kept.owed()] == [1, 1])


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">ihhi", 8, 0, 99, 1),
        struct.pack(">ihhi", 30, 0, 7, 1) + b"\xff" * 22,
        struct.pack(">i", -1) + b"x" * 20,
    ],
)
def test_bytes_that_are_no_request_end_their_connection_alone(kept, bytes_):
    with socket.create_connection(("127.0.0.1", kept.ports.kafka), timeout=PATIENCE_SECONDS) as client:
        client.sendall(bytes_)
        assert client.recv(1) == b""
    publish(kept.address, acks="all")
    assert len(kept.records(20)) == 20
    assert kept.journal.exit_status is None
