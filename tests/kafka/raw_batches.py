"""Batches of records as bytes, right and wrong, and a way to write them to a broker as they are."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
UNKNOWN_CODEC = 7
HEADER_BYTES = 61
# Now: what is older than its retention a broker deletes.
_NOW_MS = int(time.time() * 1000)
_ENCODE = {0: bytes, 1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
# Where the fields of a batch's header lie, and how they are written.
_FIELDS = {
    "base_offset": (0, ">q"),
    "length": (8, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "producer_id": (43, ">q"),
    "records": (57, ">i"),
}
_OF_THE_BROKER = {"base_offset", "length", "magic", "crc"}


def batch(
    values: Sequence[bytes | None],
    *,
    codec: int = 0,
    base_offset: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> bytes:
    """A batch of records, compressed whether that makes it smaller or not."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**31 - 1)
    for delta, value in enumerate(values):
        builder.append(delta, _NOW_MS + delta, b"key", value, list(headers))
    plain = bytes(builder.build())
    encode = _ENCODE.get(codec, bytes)
    return with_records(plain, bytes(encode(plain[HEADER_BYTES:])), attributes=codec, base_offset=base_offset)


def with_records(whole: bytes, records: bytes, **fields: int) -> bytes:
    """The batch with other bytes behind its header, and other fields in it."""
    return changed(whole[:HEADER_BYTES] + records, length=HEADER_BYTES - 12 + len(records), **fields)


def changed(whole: bytes, **fields: int) -> bytes:
    """The batch with other fields, and the right checksum unless that is one of them."""
    data = bytearray(whole)
    for name, value in fields.items():
        at, form = _FIELDS[name]
        struct.pack_into(form, data, at, value)
    if "crc" not in fields:
        struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def with_odd_header_keys(values: Sequence[bytes | None], *, codec: int = 0, base_offset: int = 0) -> bytes:
    """A batch whose records have a header with a key that is no UTF-8."""
    plain = batch(values, headers=[("ÿ-header", b"value")])
    records = plain[HEADER_BYTES:].replace("ÿ".encode(), b"\xff\xfe")
    encoded = bytes(_ENCODE[codec](records))
    return with_records(plain, encoded, attributes=codec, base_offset=base_offset)


async def _produce(bootstrap: str, topic: str, partition: int, data: bytes) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.partitions_for(topic)
        leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request: Any = ProduceRequest(None, -1, 20_000, [(topic, [(partition, data)])])
        response = await producer.client.send(leader, request)
    finally:
        await producer.stop()
    ((_topic, ((_partition, error, offset, *_rest),)),) = response.topics
    assert error == 0, f"the broker refused the batch: error {error}"
    return int(offset)


def produce_bytes(bootstrap: str, topic: str, partition: int, data: bytes) -> int:
    """Write a batch as it is; its base offset. Fails where the broker looks into it and refuses it."""
    return asyncio.run(_produce(bootstrap, topic, partition, data))
