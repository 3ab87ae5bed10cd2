"""Entries as lines of a file: JSON Lines exactly, CSV safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from services.books.tables import VIEW
from services.ledger.explanation import utc

_LINES_AT_ONCE = 500
# A spreadsheet takes text that begins like this for a formula; ids are whatever a customer chose.
_FORMULA = frozenset("=+-@")
# What an import may cut off before it looks: it can begin a formula, or end the cell before it.
_BREAKS = ("\t", "\r", "\n")
# Controls, characters without a width (byte order mark, soft hyphen, joiners), white space, combining marks.
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"})
JSON_OPTIONS = orjson.OPT_UTC_Z


class Export:
    """A file, piece by piece. Whoever holds one closes it, also where it was read to its end."""

    def __init__(self, pieces: Generator[bytes]) -> None:
        """Make the first piece at once, so that an outage until then is an error and not a broken file."""
        self._pieces = pieces
        self._first = next(pieces, b"")

    def __iter__(self) -> Iterator[bytes]:
        """The pieces; raises when it cannot go on, so that a part never looks like the whole."""
        yield self._first
        yield from self._pieces

    def close(self) -> None:
        """Give back what it holds: its place, its snapshot, its connection. May be called again."""
        self._pieces.close()


def json_lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """One JSON object a line, its fields as GET …/entries has them."""
    lines: list[bytes] = []
    for row in rows:
        entry = dict(zip(VIEW, row, strict=True))
        lines.append(orjson.dumps(entry, option=JSON_OPTIONS | orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _LINES_AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """RFC 4180 with a header. Text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay numbers, negative ones too; several flags are parted by ``;``, counts and conditions are JSON.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(VIEW)
    for count, row in enumerate(rows, 1):
        writer.writerow([_cell(value) for value in row])
        if count % _LINES_AT_ONCE == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if _runs(value) else value
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return _cell(";".join(value)) if isinstance(value, list) else value


def _runs(text: str) -> bool:
    """Whether a spreadsheet might take ``text`` for a formula, in full width and behind what nobody sees, too."""
    if text.startswith(_BREAKS):
        return True
    seen = next((character for character in text if unicodedata.category(character) not in _UNSEEN), "")
    return unicodedata.normalize("NFKC", seen) in _FORMULA
