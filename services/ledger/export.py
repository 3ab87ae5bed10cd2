"""Entries as lines of a file: JSON Lines exactly, CSV and FOCUS safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from services.books.entry_rows import Row
from services.books.tables import VIEW
from services.domain.rate_card import RateCard
from services.ledger.explanation import utc
from services.ledger.focus import NUMBERS, Terms, focus_rows

_LINES_AT_ONCE = 500
# A spreadsheet takes text that begins like this for a formula; ids are whatever a customer chose.
_FORMULA = frozenset("=+-@")
# What an import may cut off before it looks: it can begin a formula, or end the cell before it.
_BREAKS = ("\t", "\r", "\n")
# Controls, characters without a width (byte order mark, soft hyphen, joiners), white space, combining marks.
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"})
JSON_OPTIONS = orjson.OPT_UTC_Z

Pieces = Iterator[bytes]
CardNamed = Callable[[str], RateCard]


class Contents(NamedTuple):
    """What is in a file."""

    position: int
    """The last position in the feed that it counts."""
    pieces: Pieces


class Export:
    """A file, piece by piece. Whoever holds one closes it, also where it was read to its end."""

    def __init__(self, opened: AbstractContextManager[Contents]) -> None:
        """Make the first piece at once, so that an outage until then is an error and not a broken file."""
        with ExitStack() as held:
            contents = held.enter_context(opened)
            self.position = contents.position
            """The last position in the feed that it counts."""
            self._pieces = contents.pieces
            self._first = next(self._pieces, b"")
            self._held = held.pop_all()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces; raises when it cannot go on, so that a part never looks like the whole."""
        yield self._first
        yield from self._pieces

    def close(self) -> None:
        """Give back what it holds: its place, its snapshot, its connection. May be called again."""
        self._held.close()


def json_lines(rows: Iterable[Sequence[Any]], names: Sequence[str] = VIEW) -> Pieces:
    """One JSON object a line, its fields as GET …/entries has them."""
    lines: list[bytes] = []
    for row in rows:
        entry = dict(zip(names, row, strict=True))
        lines.append(orjson.dumps(entry, option=JSON_OPTIONS | orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _LINES_AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def csv_lines(rows: Iterable[Sequence[Any]], names: Sequence[str] = VIEW) -> Pieces:
    """RFC 4180 with a header. Text that a spreadsheet would run gets an apostrophe before it.

    Numbers stay numbers, negative ones too; several flags are parted by ``;``, counts and conditions are JSON.
    """
    return _csv(names, ([_cell(value) for value in row] for row in rows))


def table_lines(names: Sequence[str], numbers: Container[str], rows: Iterable[Sequence[Any]]) -> Pieces:
    """Any table as such a CSV; ``numbers`` are the columns of numbers, as such or as text already."""
    is_text = [name not in numbers for name in names]
    return _csv(names, ([_cell(v) if text else v for v, text in zip(row, is_text, strict=True)] for row in rows))


def focus_lines(entries: Iterable[Row], cards: CardNamed, terms: Terms, names: Sequence[str]) -> Pieces:
    """FOCUS 1.2 as such a CSV; ``entries`` have what ``focus_rows`` reads, ``names`` are columns that this gives.

    Raises what ``cards`` does where the card of an entry is not known.
    """
    rows = (row for entry in entries for row in focus_rows(entry, cards(entry["rate_card"]), terms))
    return table_lines(names, NUMBERS, ([row.get(name) for name in names] for row in rows))


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Pieces:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(names)
    for count, row in enumerate(rows, 1):
        writer.writerow(row)
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
        return defused(value)
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, dict):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return _cell(";".join(value)) if isinstance(value, list) else value


def defused(text: str) -> str:
    """Text as it stands in a cell: with an apostrophe before it where a spreadsheet might run it, or where it has one.

    So whoever takes one apostrophe away from each text that begins with one has what it was.
    """
    return f"'{text}" if text.startswith("'") or _runs(text) else text


def _runs(text: str) -> bool:
    """Whether a spreadsheet might take ``text`` for a formula, in full width and behind what nobody sees, too."""
    if text.startswith(_BREAKS):
        return True
    seen = next((character for character in text if unicodedata.category(character) not in _UNSEEN), "")
    return unicodedata.normalize("NFKC", seen) in _FORMULA
