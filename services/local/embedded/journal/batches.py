"""Kafka record batches (magic 2) as bytes: how many records they hold, and the same batches for another broker."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

_LENGTH_AT = 8
_LENGTH_ENDS = 12
_CRC_AT = 17
_CHECKED_FROM = 21
_LAST_OFFSET_DELTA_AT = 23
_PRODUCER_AT = 43
_PRODUCER = struct.Struct(">qhi")
_INT32 = struct.Struct(">i")
_CRC = struct.Struct(">I")
_NOBODY = _PRODUCER.pack(-1, -1, -1)
# What a batch without records has.
_HEADER_BYTES = 61
_TRANSACTIONAL = 0x10
_ATTRIBUTES_LOW_AT = 22
# A builder refuses what does not fit its size; here everything fitted once.
_NO_BOUND = 2**31 - 1


class NotABatchError(Exception):
    """The bytes are no record batches of magic 2."""


def record_count(batches: bytes) -> int:
    """How many offsets the batches take. Raises NotABatchError."""
    return sum(_last_delta(batch) + 1 for batch in _each(batches))


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
        magic=2,
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
        end = start + _LENGTH_ENDS
        if end <= len(batches):
            end += _INT32.unpack_from(batches, start + _LENGTH_AT)[0]
        batch = batches[start:end]
        if len(batch) < _HEADER_BYTES or len(batch) != end - start or batch[16] != 2:
            raise NotABatchError
        yield batch
        start = end


def _last_delta(batch: bytes) -> int:
    return int(_INT32.unpack_from(batch, _LAST_OFFSET_DELTA_AT)[0])


def _anonymous(batch: bytes) -> bytes:
    changed = bytearray(batch)
    changed[_ATTRIBUTES_LOW_AT] &= ~_TRANSACTIONAL
    changed[_PRODUCER_AT : _PRODUCER_AT + _PRODUCER.size] = _NOBODY
    if _CRC.unpack_from(batch, _CRC_AT)[0] == calc_crc32c(batch[_CHECKED_FROM:]):
        _CRC.pack_into(changed, _CRC_AT, calc_crc32c(bytes(changed[_CHECKED_FROM:])))
    return bytes(changed)
