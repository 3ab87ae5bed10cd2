"""A file's bytes as UTF-8, whatever they were written in, or a sentence that says what they seem to be."""

from __future__ import annotations

import codecs
import io
from typing import IO, BinaryIO, cast

from services.runtime.command_failed import CommandFailed

_CHUNK_BYTES = 64 * 1024
_HEAD_BYTES = 4
# The longer ones first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Transcoded(io.RawIOBase):
    """Reads another encoding and gives UTF-8. What is no text becomes bytes that are no UTF-8, so that its row alone
    is refused."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="byok.stray")
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._waiting:
            part = self._file.read(_CHUNK_BYTES)
            text = self._decoder.decode(part, final=not part)
            self._waiting = text.encode(errors="surrogateescape")
            if not part:
                break
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def _stray_byte(error: UnicodeError) -> tuple[str, int]:
    # One byte that is no UTF-8: \udcff is how surrogateescape carries it.
    return "\udcff", cast(UnicodeDecodeError, error).end


codecs.register_error("byok.stray", _stray_byte)


def as_utf8(file: IO[bytes], encoding: str | None) -> BinaryIO:
    """The same text in UTF-8. Without an ``encoding`` the first bytes say which it is; UTF-8 where they say nothing.

    Raises CommandFailed where there is no such encoding, or where the bytes are of one that they do not name.
    """
    buffered = cast(io.BufferedReader, file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file)))
    head = buffered.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if encoding is None and b"\0" in head:
            little = head[1:2] == b"\0"
            raise CommandFailed(
                f"the file is not UTF-8; it looks like UTF-16: --encoding utf-16-{'le' if little else 'be'} reads it"
            )
    elif not _is_text_encoding(encoding):
        raise CommandFailed(f"--encoding {encoding}: there is no such encoding; e.g. utf-16, cp1252, latin-1")
    if encoding is None or codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}:
        return buffered
    return io.BufferedReader(_Transcoded(buffered, encoding), _CHUNK_BYTES)


def _is_text_encoding(name: str) -> bool:
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        return False
    return True
