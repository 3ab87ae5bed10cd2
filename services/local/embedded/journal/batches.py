"""Kafka record batches (magic 2) as bytes: how many records they hold, and the same batches for another broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.runtime.record_log.batch_header import (
    HEADER_BYTES,
    MAGIC,
    TRANSACTIONAL,
    batch_at,
    checksum_is_right,
    header_of,
    packed,
)

# A builder refuses what does not fit its size; here everything fitted once.
_NO_BOUND = 2**31 - 1


class NotABatchError(Exception):
    """The bytes are no record batches of magic 2."""


def record_count(batches: bytes) -> int:
    """How many offsets the batches take. Raises NotABatchError."""
    return sum(header_of(batch).last_offset_delta + 1 for batch in _each(batches))


def without_producer(batches: bytes) -> bytes:
    """The same records from a producer without an identity: another broker never heard of the one that sent them.

    Nor of its transaction; but the embedded broker delivers the records of one that was taken back, too (measured).
    A batch whose checksum was wrong stays wrong: whatever was acknowledged is what comes again. Raises NotABatchError.
    """
    return b"".join(map(_anonymous, _each(batches)))


def without_first(batches: bytes, count: int) -> bytes:
    """The records after the first ``count``, uncompressed, as one batch.

    Raises whatever aiokafka raises for a batch that it cannot read.
    """
    builder = DefaultRecordBatchBuilder(
        magic=MAGIC,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=_NO_BOUND,
    )
    kept = list(_records(batches))[count:]
    for offset, record in enumerate(kept):
        builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
    return bytes(builder.build())


def _records(batches: bytes) -> Iterator[Any]:
    reader = MemoryRecords(batches)
    while (batch := reader.next_batch()) is not None:
        yield from batch


def _each(batches: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(batches):
        batch = batch_at(batches, start)
        if batch is None or header_of(batch).magic != MAGIC:
            raise NotABatchError
        yield batch
        start += len(batch)


def _anonymous(batch: bytes) -> bytes:
    header = header_of(batch)
    nobodys = header._replace(
        attributes=header.attributes & ~TRANSACTIONAL, producer_id=-1, producer_epoch=-1, base_sequence=-1
    )
    return packed(nobodys, batch[HEADER_BYTES:], crc=None if checksum_is_right(batch) else header.crc)
