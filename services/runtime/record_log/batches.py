"""What a fetch brought, as far as it can be read: the batches up to the first that cannot, and that one's place.

Batches are passed on out of their compression, so that nobody reads other bytes than were looked at here. Keys of
record headers that are no UTF-8 have question marks then: nobody here reads them, but aiokafka decodes them.
Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aiokafka.record.control_record import ControlRecord
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from services.runtime.record_log.batch_header import (
    CODEC,
    CONTROL,
    HEADER_BYTES,
    MAGIC,
    TRANSACTIONAL,
    Header,
    batch_at,
    checksum_is_right,
    header_of,
    packed,
)
from services.runtime.record_log.decompression import CompressionError, decompressed

# What is passed on at once, but for the last batch of it; the rest comes with the next fetch.
_TOGETHER_BYTES = 8 * 1024 * 1024
_STAND_INS_MAX = 100_000
_NO_PRODUCER = (-1, -1)

_LENGTH = "its length is not that of its bytes"
_CHECKSUM = "its checksum is wrong"
_PLACE = "its offsets are not those of its place in the log"
_RECORDS = "its records do not lie as its header says"


class Unreadable(NamedTuple):
    """A batch that cannot be read: the offsets that it holds, or is taken to hold, and why."""

    first: int
    last: int
    why: str
    each: bool = True
    """Whether there is a record at every offset. Where that is not known, one record stands for all of them."""
    transaction_of: tuple[int, int] = _NO_PRODUCER
    """Whose transaction it belongs to, id and epoch: of an aborted one, nobody misses anything."""


class Reading(NamedTuple):
    """What can be read from a place on, and what cannot right after it."""

    data: bytes
    fault: Unreadable | None


class _BrokenBatchError(Exception):
    """Why a batch cannot be read."""


def readable(data: bytes, offset: int, end: int) -> Reading:
    """The batches of ``data`` from ``offset`` on, up to the first that cannot be read.

    The log ends before ``end``. Of very much, the first part is passed on: the rest comes with the next fetch.
    """
    parts: list[bytes] = []
    opened = at = 0
    while at < len(data) and opened < _TOGETHER_BYTES:
        batch = batch_at(data, at)
        if batch is None:
            # A fetch may end in the middle of a batch, but never of its first.
            cut = None if at else _misplaced(data, _Room(offset, end, end, is_first=True), _LENGTH)
            return Reading(b"".join(parts), cut)
        at += len(batch)
        room = _room(data, at, offset, end, is_first=not parts)
        try:
            part = _checked(batch, room)
        except _BrokenBatchError as broken:
            return Reading(b"".join(parts), _unreadable(batch, room, str(broken)))
        opened += len(part)
        parts.append(part)
        offset = header_of(batch).last_offset + 1
    return Reading(b"".join(parts), None)


class _Room(NamedTuple):
    """The offsets that a batch can have, by what lies around it."""

    begin: int
    end: int
    log_end: int
    is_first: bool

    def holds(self, header: Header) -> bool:
        """Whether the batch can lie where it says.

        The broker writes the place of a batch, and no checksum covers it. Where two claim the same offsets, the one
        that begins right behind the one before is believed.
        """
        begins_right = header.base_offset == self.begin or (self.is_first and header.base_offset < self.begin)
        end = self.log_end if begins_right else self.end
        return (
            header.last_offset_delta >= 0
            and self.begin <= header.last_offset < end
            and (begins_right or header.base_offset > self.begin)
        )


def _room(data: bytes, at: int, begin: int, end: int, *, is_first: bool) -> _Room:
    """The room from ``begin`` on of the batch that ends at the byte ``at``; the log ends before ``end``."""
    following = batch_at(data, at)
    if following is not None and begin < header_of(following).base_offset < end:
        return _Room(begin, header_of(following).base_offset, end, is_first)
    return _Room(begin, end, end, is_first)


def _checked(batch: bytes, room: _Room) -> bytes:
    """The batch as aiokafka can read it, out of its compression. Raises _BrokenBatchError."""
    header = header_of(batch)
    if header.magic != MAGIC:
        raise _BrokenBatchError(f"its format {header.magic} is not read, only format {MAGIC}")
    if not checksum_is_right(batch):
        raise _BrokenBatchError(_CHECKSUM)
    if not room.holds(header):
        raise _BrokenBatchError(_PLACE)
    codec = header.attributes & CODEC
    try:
        opened = decompressed(codec, batch[HEADER_BYTES:])
    except CompressionError as error:
        raise _BrokenBatchError(str(error)) from None
    uncompressed = header._replace(attributes=header.attributes & ~CODEC)
    plain = packed(uncompressed, opened) if codec else batch
    if _reads(header, plain):
        return plain
    mended = packed(uncompressed, _with_ascii_header_keys(opened, header.records))
    if not _reads(header, mended):
        raise _BrokenBatchError(_RECORDS)
    return mended


def _reads(header: Header, batch: bytes) -> bool:
    """Whether aiokafka reads the batch, and its offsets rise within what the header claims."""
    before = header.base_offset - 1
    try:
        for record in MemoryRecords(batch).next_batch():
            if not before < record.offset <= header.last_offset:
                return False
            before = record.offset
            if header.attributes & CONTROL:
                ControlRecord.parse(record.key)
    except Exception:  # noqa: BLE001 - it has many ways to say that it cannot
        return False
    return not header.attributes & CONTROL or before >= header.base_offset


def _with_ascii_header_keys(records: bytes, count: int) -> bytes:
    """The records with question marks in the keys of headers that are no UTF-8. Raises _BrokenBatchError."""
    mended = bytearray(records)
    try:
        for start, end in _header_keys(mended, count):
            key = mended[start:end]
            try:
                key.decode()
            except UnicodeDecodeError:
                mended[start:end] = bytes(byte if byte < 0x80 else ord("?") for byte in key)
    except (ValueError, IndexError):
        raise _BrokenBatchError(_RECORDS) from None
    return bytes(mended)


def _header_keys(records: bytearray, count: int) -> Iterator[tuple[int, int]]:
    """Where the keys of the records' headers lie. Raises ValueError or IndexError where they cannot be found."""
    at = 0
    for _ in range(count):
        _length, at = decode_varint_py(records, at)
        at += 1  # attributes
        for _delta in ("timestamp", "offset"):
            _, at = decode_varint_py(records, at)
        for _name in ("key", "value"):
            _, at = _field(records, at)
        headers, at = decode_varint_py(records, at)
        for _header in range(headers):
            start, at = _field(records, at)
            yield start, at
            _, at = _field(records, at)


def _field(records: bytearray, at: int) -> tuple[int, int]:
    """Where the bytes begin and end whose length stands at ``at``."""
    size, start = decode_varint_py(records, at)
    end = start + max(size, 0)
    if end > len(records):
        raise ValueError("a field that is longer than its batch")
    return start, end


def _unreadable(batch: bytes, room: _Room, why: str) -> Unreadable:
    header = header_of(batch)
    if header.magic != MAGIC or not checksum_is_right(batch) or not room.holds(header):
        return _misplaced(batch, room, why)
    is_transaction = header.attributes & TRANSACTIONAL and not header.attributes & CONTROL
    whose = (header.producer_id, header.producer_epoch) if is_transaction else _NO_PRODUCER
    first = max(room.begin, header.base_offset)
    # Nothing is read of it, so a batch that is there where it claims to go on is believed.
    last = min(header.last_offset, room.end - 1)
    return _bounded(Unreadable(first, last, why, header.counts_agree, whose))


def _misplaced(batch: bytes, room: _Room, why: str) -> Unreadable:
    """A batch whose header may be wrong in anything: it begins where it was looked for.

    It ends before the next batch. Where none is there, it ends where its header says, if two numbers of the header
    agree; else it is taken for one offset, and the next fetch shows more.
    """
    last = room.begin
    if room.end < room.log_end:
        last = room.end - 1
    elif len(batch) >= HEADER_BYTES:
        header = header_of(batch)
        if header.counts_agree and room.holds(header):
            last = header.last_offset
    return _bounded(Unreadable(room.begin, last, why))


def _bounded(fault: Unreadable) -> Unreadable:
    return fault._replace(each=fault.each and fault.last - fault.first < _STAND_INS_MAX)


def stand_in(fault: Unreadable, header: str) -> bytes:
    """A batch that aiokafka can read in the place of one that nobody can.

    It has an empty record at each offset, or one at the last offset for all, with why in the header named ``header``.
    """
    first = fault.first if fault.each else fault.last
    why = f"the batch of offsets {fault.first} to {fault.last} cannot be read: {fault.why}"
    producer_id, producer_epoch = fault.transaction_of
    builder = DefaultRecordBatchBuilder(
        magic=MAGIC,
        compression_type=0,
        is_transactional=int(fault.transaction_of != _NO_PRODUCER),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=-1,
        batch_size=2**31 - 1,
    )
    for delta in range(fault.last - first + 1):
        builder.append(delta, 0, None, None, [(header, why.encode())])
    batch = bytearray(builder.build())
    # Its place is the broker's to say, so the checksum does not cover it.
    struct.pack_into(">q", batch, 0, first)
    return bytes(batch)
