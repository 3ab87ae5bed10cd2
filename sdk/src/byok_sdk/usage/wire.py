"""Answers as bytes that pass by, whole or as server-sent events, compressed or not: what they used, once they end."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from byok_sdk.errors import UsageError, UsageMissingError
from byok_sdk.usage.apis import Api
from byok_sdk.usage.extraction import read_usage
from byok_sdk.usage.measured import Usage
from byok_sdk.usage.streams import StreamUsage

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of a whole answer, or of one event of a stream. No more than that is ever held."""

ENCODINGS = "gzip, deflate"
"""The content encodings that are read here."""

_DONE = b"[DONE]"


class AnswerBytes:
    """Sees the bytes of one answer, and says at the end what it used. What cannot be read is said then, too."""

    def __init__(self, provider: str, api: Api, *, streamed: bool, encoding: str = "") -> None:
        """``streamed``: as server-sent events. ``encoding``: the answer's Content-Encoding."""
        self._provider, self._api = provider, api
        self._unpacked = _Unpacked(encoding)
        self._events = _Events() if streamed else None
        self._seen = StreamUsage(provider) if streamed else None
        self._body = bytearray()
        self._failure: Exception | None = None
        self.over = False
        """Whether nothing more can come of its usage."""

    def see(self, chunk: bytes) -> None:
        """Take in what comes next. Raises nothing, for it stands in another's way."""
        if self._failure is not None:
            return
        try:
            for data in self._unpacked.more(chunk):
                self._take(data)
        except Exception as error:  # noqa: BLE001 - as the docstring says; ``usage`` raises it
            self._failure = error
            self._body.clear()

    def usage(self, *, cut: bool) -> Usage:
        """What the answer used; of a stream that was ``cut`` what it has told so far, as ``partial``.

        Raises UsageError that names the fields where that cannot be read for sure.
        """
        if self._failure is not None:
            raise self._failure
        if self._seen is not None and self._events is not None:
            for data in self._events.end():
                self._hear(self._seen, data)
            return self._seen.result()
        if cut:
            raise UsageMissingError("an answer was left before its end")
        body, self._body = self._body, bytearray()
        answer = _parsed(body)
        return self._of_a_list(answer) if isinstance(answer, list) else read_usage(answer, self._api)

    def _take(self, data: bytes) -> None:
        if self._seen is not None and self._events is not None:
            for event in self._events.more(data):
                self._hear(self._seen, event)
            return
        self._body += data
        _check_size(len(self._body))

    def _hear(self, seen: StreamUsage, event: bytes) -> None:
        if event.strip() == _DONE:
            self.over = True
        elif isinstance(told := _parsed(event, {}), dict):
            seen.see(told)
            self.over = self.over or seen.over

    def _of_a_list(self, events: list[Any]) -> Usage:
        """Gemini's streams are lists, unless events were asked for."""
        seen = StreamUsage(self._provider)
        for event in events:
            seen.see(event)
        return seen.result()


class _Unpacked:
    """Undoes a content encoding, in pieces of bounded size."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        # Knows by its head whether it is gzip or deflate.
        self._packed = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def more(self, chunk: bytes) -> Iterator[bytes]:
        if self._encoding in ("", "identity"):
            yield chunk
            return
        if self._encoding not in ("gzip", "deflate"):
            raise UsageError(f"an answer in the encoding {self._encoding!r} cannot be read; the client asked for it")
        while chunk:
            yield self._packed.decompress(chunk, ANSWER_BYTES_MAX)
            chunk = self._packed.unconsumed_tail


class _Events:
    """Splits server-sent events into the data of each; their names are in the data, too."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def more(self, data: bytes) -> Iterator[bytes]:
        self._line += data
        _check_size(self._size + len(self._line))
        if b"\n" not in data and b"\r" not in data:
            return
        lines = bytes(self._line).splitlines(keepends=True)
        # A carriage return at the end may be half of a line's end.
        self._line = bytearray(b"" if lines[-1].endswith(b"\n") else lines.pop())
        for line in lines:
            yield from self._next(line.rstrip(b"\r\n"))

    def end(self) -> Iterator[bytes]:
        """What came without the empty line that ends an event."""
        yield from self._next(bytes(self._line).rstrip(b"\r\n"))
        yield from self._next(b"")

    def _next(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:])
            self._size += len(line)
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data, self._size = [], 0


def _check_size(size: int) -> None:
    if size > ANSWER_BYTES_MAX:
        raise UsageError(f"an answer of more than {ANSWER_BYTES_MAX} bytes is not read")


_NONE = object()


def _parsed(text: bytes | bytearray, otherwise: Any = _NONE) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if otherwise is not _NONE:
            return otherwise
        # Without the cause, which holds the text.
        raise UsageError("an answer is no JSON") from None
