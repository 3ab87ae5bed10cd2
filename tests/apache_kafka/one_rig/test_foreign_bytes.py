"""What other clients write to Apache Kafka, and what becomes of it on the broker's disk."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from tests.apache_kafka.metering import ROTTEN, USAGE, Metering
from tests.kafka.raw_batches import CODECS, HEADER_BYTES, batch, produce_bytes, with_odd_header_keys
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

_HEADERS = [("traceparent", b"00-abc"), ("größe", b""), ("traceparent", b"\xff\x00")]


def _send(metering: Metering, partition: int, codec: str | None) -> None:
    """Twenty events, half of them in one record, in compressed batches with headers."""
    events = [metering.event() for _ in range(20)]
    bootstrap = metering.rig.kafka.bootstrap
    with closing(KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=50)) as producer:
        for value in (*events[:10], events[10:]):
            producer.send(USAGE, value=json.dumps(value).encode(), partition=partition, headers=_HEADERS)
        producer.flush(PATIENCE_SECONDS)


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(codec: str | None, metering: Metering) -> None:
    _send(metering, 0, codec)
    metering.start()
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


@pytest.mark.parametrize("codec", [CODECS["none"], CODECS["zstd"]])
def test_keys_of_headers_that_are_no_text_are_nobodys_concern(codec: int, metering: Metering) -> None:
    values = [json.dumps(metering.event()).encode() for _ in range(10)]
    produce_bytes(metering.rig.kafka.bootstrap, USAGE, 1, with_odd_header_keys(values, codec=codec))
    metering.start()
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


def test_bytes_that_rot_on_the_brokers_disk_are_dead_letters_and_all_else_is_booked(metering: Metering) -> None:
    """Kafka hands out what its files hold, and looks at no checksum."""
    kafka = metering.rig.kafka
    before = metering.send(3, ROTTEN)
    rotten = batch([b'{"rotten": 1}', b'{"rotten": 2}', b'{"rotten": 3}'])
    first = produce_bytes(kafka.bootstrap, USAGE, ROTTEN, rotten)
    assert first == before + 1
    metering.send(3, ROTTEN)
    kafka.stop()
    _damage(metering.rig.data.root / "kafka" / "data" / f"{USAGE}-{ROTTEN}", b'{"rotten": 2}')
    kafka.start()
    worker = metering.start()
    metering.wait_charged(metering.sent_ids())
    letters = metering.rig.rows("SELECT * FROM ledger.dead_letters WHERE source_partition = %s", ROTTEN)
    why = f"the batch of offsets {first} to {first + 2} cannot be read: its checksum is wrong"
    assert sorted((row["source_offset"], row["reason"], row["detail"]) for row in letters) == [
        (first + number, "malformed_json", why) for number in range(3)
    ]
    metering.assert_conserved(ROTTEN)
    assert worker.running


def _damage(folder: Path, place: bytes) -> None:
    (log,) = folder.glob("*.log")
    whole = bytearray(log.read_bytes())
    at = whole.index(place)
    assert at > HEADER_BYTES
    whole[at + 2] ^= 1
    log.write_bytes(whole)


def test_what_was_taken_back_is_not_charged_where_it_was_compressed_either(metering: Metering) -> None:
    metering.start()
    producer = KafkaProducer(
        bootstrap_servers=metering.rig.kafka.bootstrap, transactional_id=metering.org_id, compression_type="zstd"
    )
    producer.init_transactions()
    kept: list[str] = []
    for number in range(4):
        ids = metering.transaction(producer, 3, 2, commit=number % 2 == 0)
        kept += ids if number % 2 == 0 else []
    producer.close()
    last = metering.send(1, 2)
    metering.wait_charged([*kept, metering.sent_ids()[-1]])
    assert metering.booked_offset(2) == last + 1
    metering.assert_conserved()
