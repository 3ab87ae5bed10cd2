"""A real worker on a topic into which anybody writes anything: every compression, odd headers, and broken bytes."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from services.books.migrations import upgrade
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.processes import WorkerProcess, send
from tests.integration.metering.workers import Worker, cards, node_call, payloads, publish
from tests.integration.real_parts import Database, running_broker
from tests.kafka.raw_batches import CODECS, batch, changed, produce_bytes, with_odd_header_keys
from tests.patience import PATIENCE_SECONDS, wait_for

_HEADERS = [("traceparent", b"00-abc"), ("traceparent", b"\xff\x00")]
_partitions = itertools.count()


class Metering(NamedTuple):
    """One worker, and what it works on."""

    broker: str
    ledger: Ledger
    worker: WorkerProcess

    def booked(self, prefix: str) -> list[str]:
        """The ids of the charges that begin so."""
        query = "SELECT event_id FROM ledger.entry WHERE event_id LIKE %s ORDER BY event_id"
        return [row["event_id"] for row in self.ledger.rows(query, f"{prefix}-%")]

    def wait_booked(self, ids: list[str]) -> None:
        """Wait for these charges, and insist on each once, and on a worker that still runs."""
        prefix = ids[0].rpartition("-")[0]
        wait_for(f"{len(ids)} charges", lambda: len(self.booked(prefix)) >= len(ids) or not self.worker.running)
        assert self.worker.exit_status is None, self.worker.log_file.read_text()[-3000:]
        assert self.booked(prefix) == sorted(ids)

    def dead_letters(self, partition: int) -> list[tuple[int, str, str]]:
        """Offset, reason and detail of what was refused in a partition."""
        query = "SELECT * FROM ledger.dead_letters WHERE source_partition = %s ORDER BY source_offset"
        return [(r["source_offset"], r["reason"], r["detail"]) for r in self.ledger.rows(query, partition)]

    def next_offset(self, partition: int) -> int:
        """How far the partition is booked."""
        rows = self.ledger.rows("SELECT next_offset FROM ledger.source_partition WHERE partition = %s", partition)
        return int(rows[0]["next_offset"]) if rows else 0


@pytest.fixture(scope="module")
def metering(postgres: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metering]:
    """A worker that is ready, on a broker of its own."""
    folder = tmp_path_factory.mktemp("unreadable-records")
    postgres.create("ledger_of_unreadable", "ledger_owner")
    ledger = Ledger(postgres, "ledger_of_unreadable")
    upgrade(ledger.owner_dsn)
    with running_broker(folder) as broker:
        send(broker, REGISTRY_CHANGES.name, payloads(cards()))
        worker = WorkerProcess("worker", broker, ledger, folder)
        worker.start()
        worker.wait_ready()
        yield Metering(broker, ledger, worker)
        worker.kill()


@pytest.fixture
def partition() -> int:
    """One that no other test writes to."""
    return next(_partitions)


def _events(how_many: int) -> list[dict[str, Any]]:
    name = uuid.uuid4().hex[:8]
    return [node_call(f"{name}-{number:04}") for number in range(how_many)]


def _values(events: list[dict[str, Any]]) -> list[bytes]:
    """Half of them in records of their own, the others together in one."""
    half = len(events) // 2
    return [json.dumps(value).encode() for value in (*events[:half], events[half:])]


def _ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_kafka_python_is_read(codec: str | None, metering: Metering) -> None:
    events = _events(60)
    with closing(
        KafkaProducer(bootstrap_servers=metering.broker, acks="all", compression_type=codec, linger_ms=50)
    ) as producer:
        sent = [
            producer.send(USAGE_EVENTS.name, value=value, key=b"acme", partition=11, headers=_HEADERS)
            for value in _values(events)
        ]
        for future in sent:
            future.get(PATIENCE_SECONDS)
    metering.wait_booked(_ids(events))


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_aiokafka_is_read(codec: str | None, metering: Metering) -> None:
    events = _events(60)

    async def produce() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=metering.broker, compression_type=codec, linger_ms=50
        ) as producer:
            sent = [
                await producer.send(USAGE_EVENTS.name, value=value, key=b"acme", partition=11, headers=_HEADERS)
                for value in _values(events)
            ]
            await asyncio.gather(*sent)

    asyncio.run(produce())
    metering.wait_booked(_ids(events))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_keys_of_headers_that_are_no_text_are_nobodys_concern(codec: int, metering: Metering) -> None:
    events = _events(10)
    produce_bytes(metering.broker, USAGE_EVENTS.name, 11, with_odd_header_keys(_values(events), codec=codec))
    metering.wait_booked(_ids(events))


_GOOD = batch([b"one", b"two"])
BROKEN = {
    "checksum": (changed(_GOOD, crc=1), "its checksum is wrong"),
    "compression": (changed(_GOOD, attributes=CODECS["zstd"]), "the zstd compression is broken"),
    "format": (changed(_GOOD, magic=3), "its format 3 is not read, only format 2"),
    "records": (changed(_GOOD, attributes=0x20), "its records do not lie as its header says"),
    "bomb": (batch([b"a" * (17 << 20)] * 2, codec=4), "the batch holds more than 33554432 bytes uncompressed"),
}


@pytest.mark.parametrize(("broken", "why"), BROKEN.values(), ids=BROKEN)
def test_a_batch_that_cannot_be_read_is_a_dead_letter_at_each_offset_and_the_rest_is_booked(
    broken: bytes, why: str, metering: Metering, partition: int
) -> None:
    before, behind = _events(4), _events(4)
    produce_bytes(metering.broker, USAGE_EVENTS.name, partition, batch(_values(before)))
    first = produce_bytes(metering.broker, USAGE_EVENTS.name, partition, broken)
    # It is told also while nothing comes after it.
    wait_for("dead letters", lambda: len(metering.dead_letters(partition)) == 2)
    detail = f"the batch of offsets {first} to {first + 1} cannot be read: {why}"
    assert metering.dead_letters(partition) == [(first + n, "malformed_json", detail) for n in range(2)]
    assert metering.next_offset(partition) == first + 2
    produce_bytes(metering.broker, USAGE_EVENTS.name, partition, batch(_values(behind)))
    metering.wait_booked(_ids(before))
    metering.wait_booked(_ids(behind))
    assert metering.next_offset(partition) == first + 5


def test_how_many_records_could_not_be_read_is_a_metric(metering: Metering, partition: int) -> None:
    before = metering.worker.metric("byok_unreadable_records_total")
    produce_bytes(metering.broker, USAGE_EVENTS.name, partition, changed(_GOOD, crc=1))
    wait_for("the metric", lambda: metering.worker.metric("byok_unreadable_records_total") == before + 2)


def test_what_was_not_delivered_is_told_as_well(broker: str, ledger: Ledger, topic: str) -> None:
    """The reader that fills gaps reads the same bytes."""
    before = publish(broker, topic, 0, node_call("one"))
    first = produce_bytes(broker, topic, 0, changed(_GOOD, crc=1))
    produce_bytes(broker, topic, 0, with_odd_header_keys([json.dumps(node_call("two")).encode()], codec=4))
    behind = publish(broker, topic, 0, node_call("three"))

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        try:
            await worker.learn(*cards())
            await worker.book(before)
            await worker.book(behind)
        finally:
            await worker.stop()

    asyncio.run(book())
    assert [entry["event_id"] for entry in ledger.entries()] == ["one", "three", "two"]
    letters = ledger.rows("SELECT source_offset, reason FROM ledger.dead_letters ORDER BY 1")
    assert [(row["source_offset"], row["reason"]) for row in letters] == [
        (first, "malformed_json"),
        (first + 1, "malformed_json"),
    ]
    covered = ledger.rows("SELECT sum(events) AS events FROM ledger.covered_range")
    assert covered[0]["events"] == 5
