"""What the journal says, one note after the other, and how a note lies in a file: its length, its checksum, itself."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_FRAME = struct.Struct(">II")
_KEPT = struct.Struct(">cQi")
_PLACED = struct.Struct(">cQq")
_SETTLED = struct.Struct(">cQ")
# No request of Kafka is larger, so a greater length is no length.
_NOTE_BYTES_MAX = 100 * 1024 * 1024 + _KEPT.size


class Kept(NamedTuple):
    """Record batches for a partition, as a producer sent them; written before the broker has them."""

    entry: int
    partition: int
    batches: bytes


class Placed(NamedTuple):
    """Where the broker put an entry: the offset of its first record in the log of one cluster id.

    The offset may be negative: of an entry sent again in part, it is the one that its first record would have.
    """

    entry: int
    first_offset: int
    cluster_id: str


class Settled(NamedTuple):
    """Nothing is owed for the entry: the broker refused it, or its producer was never told that it is acknowledged."""

    entry: int


Note = Kept | Placed | Settled


def encode(note: Note) -> bytes:
    """The note as it lies in a file."""
    match note:
        case Kept():
            body = _KEPT.pack(b"K", note.entry, note.partition) + note.batches
        case Placed():
            body = _PLACED.pack(b"P", note.entry, note.first_offset) + note.cluster_id.encode()
        case Settled():
            body = _SETTLED.pack(b"S", note.entry)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def read(file: BinaryIO) -> Iterator[Note]:
    """The notes from the start of a file. What follows the last whole one was never said: there ``file`` stays."""
    while True:
        start = file.tell()
        head = file.read(_FRAME.size)
        size, checksum = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, 0)
        body = file.read(min(size, _NOTE_BYTES_MAX))
        if not body or len(body) != size or zlib.crc32(body) != checksum:
            file.seek(start)
            return
        yield _decode(body)


def _decode(body: bytes) -> Note:
    match body[:1]:
        case b"K":
            _, entry, partition = _KEPT.unpack_from(body)
            return Kept(entry, partition, body[_KEPT.size :])
        case b"P":
            _, entry, first_offset = _PLACED.unpack_from(body)
            return Placed(entry, first_offset, body[_PLACED.size :].decode())
        case b"S":
            return Settled(_SETTLED.unpack(body)[1])
        case kind:
            raise ValueError(f"a journal of another version: its notes are of the kind {kind!r}")
