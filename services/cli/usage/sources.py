"""Rows from a file of JSON lines or CSV, one at a time: one that cannot be read never takes its neighbours with it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from schemas.dead_letters import Reason
from schemas.topics import MESSAGE_BYTES_MAX
from services.messages.json_bytes import MalformedJsonError, decode
from services.messages.usage_events import Rejection, no_object
from services.runtime.command_failed import CommandFailed

LINE_BYTES_MAX = MESSAGE_BYTES_MAX - 100_000
"""Longer lines are refused unread: no event of that size fits into a record."""

_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"is longer than {LINE_BYTES_MAX:,} bytes"
_NOT_UTF8 = "is not UTF-8; --encoding says what it is, e.g. cp1252"
_SEPARATOR = re.compile(r"sep=(.)")
_DELIMITERS = ",;\t|"


class Row(NamedTuple):
    """One readable row: the number of its (first) line in the file, from 1, and its values by name."""

    line: int
    values: Mapping[str, Any]


class RowReason(StrEnum):
    """Why a row is rejected that no other reader of events has ever seen."""

    UNREADABLE_ROW = "unreadable_row"


class Unreadable(NamedTuple):
    """A row that is no row: the number of its (first) line, and what is wrong with it."""

    line: int
    rejection: Rejection


def _unreadable(line: int, problem: str) -> Unreadable:
    return Unreadable(line, Rejection.of(RowReason.UNREADABLE_ROW, problem))


Rows = Iterator[Row | Unreadable]


class Lines:
    """The lines of a file as bytes; None for one that is too long. Holds one line at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0
        """How many lines were read, so also the number of the current one."""
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes | None]:
        while part := self._read():
            self.number += 1
            if self.number == 1:
                part = part.removeprefix(_BOM)
            if len(part) <= LINE_BYTES_MAX:
                yield part
            else:
                while part and not part.endswith(b"\n"):
                    part = self._read()
                yield None

    def _read(self) -> bytes:
        part = self._file.readline(LINE_BYTES_MAX + 1)
        self.bytes_read += len(part)
        return part


def jsonl_rows(lines: Lines) -> Rows:
    """One JSON object a line; empty lines count as lines and are passed over."""
    for line in lines:
        if line is None:
            yield _unreadable(lines.number, _TOO_LONG)
        elif line.strip():
            yield _json_row(lines.number, line.rstrip(b"\r\n"))


def _json_row(number: int, line: bytes) -> Row | Unreadable:
    try:
        value = decode(line)
    except MalformedJsonError as error:
        return Unreadable(number, Rejection.of(Reason.MALFORMED_JSON, str(error)))
    return Row(number, value) if isinstance(value, dict) else Unreadable(number, no_object(value).rejection)


class CsvTable:
    """A CSV file with a header line (RFC 4180: quoted fields may hold delimiters, quotes and line ends)."""

    def __init__(self, lines: Lines, delimiter: str | None = None) -> None:
        """Reads the header, which also says what parts the fields where ``delimiter`` does not.

        Raises CommandFailed where there is none that can be used.
        """
        self._lines = lines
        self._too_long = False
        texts = self._texts()
        first = next((text for text in texts if text.strip()), "")
        if told := _SEPARATOR.fullmatch(first.strip()):
            # A line that Excel writes for itself.
            delimiter, first = delimiter or told[1], next(texts, "")
        self._reader = csv.reader(chain((first,), texts), delimiter=delimiter or _delimiter_of(first), strict=True)
        self.columns = self._header()

    def rows(self) -> Rows:
        """The rows below the header; one whose number of fields differs from the header's is unreadable."""
        while True:
            first, self._too_long = self._lines.number + 1, False
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _unreadable(first, _TOO_LONG if self._too_long else f"is not CSV: {error}")
                continue
            if self._too_long:
                yield _unreadable(first, _TOO_LONG)
            elif fields:
                yield self._row(first, fields)

    def _row(self, line: int, fields: list[str]) -> Row | Unreadable:
        if len(fields) != len(self.columns):
            return _unreadable(line, f"has {len(fields)} fields, the header {len(self.columns)}")
        if any(_has_stray_bytes(field) for field in fields):
            return _unreadable(line, _NOT_UTF8)
        return Row(line, dict(zip(self.columns, fields, strict=True)))

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            if line is None:
                self._too_long = True
                # An empty line in its place cannot open a quotation that would swallow the rows below.
                yield "\n"
            else:
                # Bytes that are no UTF-8 are carried along, so that the row they are in is the one refused.
                yield line.decode(errors="surrogateescape")

    def _header(self) -> tuple[str, ...]:
        try:
            columns = next((tuple(name.strip() for name in fields) for fields in self._reader if fields), ())
        except csv.Error as error:
            raise CommandFailed(f"the header is not CSV: {error}") from None
        if not columns:
            raise CommandFailed("the file has no header line")
        if any(_has_stray_bytes(name) for name in columns):
            raise CommandFailed(f"the header {_NOT_UTF8}")
        if len(set(columns)) != len(columns):
            raise CommandFailed("the header names a column twice")
        return columns


def _delimiter_of(header: str) -> str:
    """What parts the names of a header: a comma, where there is one outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return next((delimiter for delimiter in _DELIMITERS if delimiter in bare), ",")


def _has_stray_bytes(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
