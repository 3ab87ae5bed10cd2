"""Entries as lines of a file: JSON Lines exactly, CSV safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from services.ledger.explanation import utc
from services.ledger.models import COLUMNS

_LINES_AT_ONCE = 500
# A spreadsheet takes text that begins like this for a formula; ids are whatever a customer chose.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
JSON_OPTIONS = orjson.OPT_UTC_Z


def json_lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """One JSON object a line, its fields as GET …/entries has them."""
    lines: list[bytes] = []
    for row in rows:
        entry = dict(zip(COLUMNS, row, strict=True))
        lines.append(orjson.dumps(entry, option=JSON_OPTIONS | orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _LINES_AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """RFC 4180 with a header. Text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay numbers, negative ones too; several flags are parted by ``;``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
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
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, datetime):
        return utc(value)
    return ";".join(value) if isinstance(value, list) else value
