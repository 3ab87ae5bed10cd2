"""A Kafka record batch of format 2 as bytes: where it ends, and what stands before its records."""

from __future__ import annotations

import struct
from typing import NamedTuple

from aiokafka.record.util import calc_crc32c

MAGIC = 2
CODEC, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20
"""Bits of a batch's attributes."""

_FRAME = struct.Struct(">qi")
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC = struct.Struct(">I")
_CRC_AT, _CHECKED_FROM = 17, 21
HEADER_BYTES = _HEADER.size


class Header(NamedTuple):
    """What stands before the records of a batch."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record, if the header tells the truth."""
        return self.base_offset + self.last_offset_delta

    @property
    def counts_agree(self) -> bool:
        """Whether the two numbers from which the count of records follows say the same."""
        return self.records == self.last_offset_delta + 1 > 0


def batch_at(data: bytes, at: int) -> bytes | None:
    """The batch that begins at the byte ``at``, of whatever format; None where it does not lie there whole."""
    if len(data) - at < HEADER_BYTES:
        return None
    _base, length = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + length
    return data[at:end] if at + HEADER_BYTES <= end <= len(data) else None


def header_of(batch: bytes) -> Header:
    """The header of a batch, whether or not it tells the truth."""
    return Header._make(_HEADER.unpack_from(batch))


def checksum_is_right(batch: bytes) -> bool:
    """Whether the checksum of a batch is that of its bytes. Its place in the log is not covered."""
    (crc,) = _CRC.unpack_from(batch, _CRC_AT)
    return bool(crc == calc_crc32c(batch[_CHECKED_FROM:]))


def packed(header: Header, records: bytes, *, crc: int | None = None) -> bytes:
    """The batch of this header and these records, with the length that they have; and their checksum, or ``crc``."""
    length = HEADER_BYTES + len(records) - _FRAME.size
    batch = bytearray(_HEADER.pack(*header._replace(length=length)) + records)
    _CRC.pack_into(batch, _CRC_AT, calc_crc32c(bytes(batch[_CHECKED_FROM:])) if crc is None else crc)
    return bytes(batch)
