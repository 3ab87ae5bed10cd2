"""The records of a batch out of their compression, within a bound: a few bytes may stand for any number."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cramjam
import lz4.frame
import zstandard

OPENED_BYTES_MAX = 32 * 1024 * 1024
"""What the records of one batch may come to, uncompressed: 32 times what a broker takes by default."""

# What zlib is told for gzip's header and checksum.
_GZIP = 16 + zlib.MAX_WBITS
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class CompressionError(Exception):
    """The bytes cannot be taken out of their compression; the message says why."""


def decompressed(codec: int, data: bytes) -> bytes:
    """What ``data`` holds; ``codec`` is the number of a batch's attributes. Raises CompressionError."""
    if codec == 0:
        return data
    if codec not in _CODECS:
        raise CompressionError(f"compression {codec} is none that Kafka knows")
    name, decode = _CODECS[codec]
    try:
        return decode(data)
    except CompressionError:
        raise
    except Exception as error:
        raise CompressionError(f"the {name} compression is broken") from error


def _too_large() -> CompressionError:
    return CompressionError(f"the batch holds more than {OPENED_BYTES_MAX} bytes uncompressed")


def _gzip(data: bytes) -> bytes:
    opened = b""
    while data:
        decoder = zlib.decompressobj(_GZIP)
        # One byte more than is taken: a member that ends before it has been read to its checksum.
        opened += decoder.decompress(data, OPENED_BYTES_MAX + 1 - len(opened))
        if len(opened) > OPENED_BYTES_MAX:
            raise _too_large()
        if not decoder.eof:
            raise CompressionError("the gzip compression is broken")
        # Zeroes may fill up what follows on the last member.
        data = decoder.unused_data.lstrip(b"\0")
    return opened


def _lz4(data: bytes) -> bytes:
    decoder = lz4.frame.LZ4FrameDecompressor()
    opened = bytes(decoder.decompress(data, max_length=OPENED_BYTES_MAX + 1))
    if len(opened) > OPENED_BYTES_MAX:
        raise _too_large()
    if not decoder.eof:
        raise CompressionError("the lz4 compression is broken")
    return opened


def _zstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        opened = stream.read(OPENED_BYTES_MAX + 1)
    if len(opened) > OPENED_BYTES_MAX:
        raise _too_large()
    return opened


def _snappy(data: bytes) -> bytes:
    blocks = _xerial_blocks(data) if data.startswith(_XERIAL_MAGIC) else [data]
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > OPENED_BYTES_MAX:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _xerial_blocks(data: bytes) -> list[bytes]:
    """The framing that Java's producers put around blocks of snappy."""
    blocks, at = [], _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 <= size <= len(data) - at:
            raise CompressionError("the snappy compression is broken")
        blocks.append(data[at : at + size])
        at += size
    return blocks


_CODECS: dict[int, tuple[str, Callable[[bytes], bytes]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
