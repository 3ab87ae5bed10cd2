"""By what an event that has no identity of its own is known again when its file is published once more."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from schemas.dead_letters import Reason
from services.cli.usage.cells import as_text, cell, is_empty
from services.cli.usage.sources import Row
from services.domain.faults import Fault
from services.messages.usage_events import RejectedError

LINE, ROW = "line", "row"
LINE_PREFIX, ROW_PREFIX = "line-", "row-"
"""How ids begin that stand for a place in the file, or for the content of a row."""
_ID_BYTES_MAX = 256


class Identity(Protocol):
    """Gives each row its event's id."""

    wins: bool
    """Whether it counts also where the row names an id itself."""
    repeated: int
    """How many rows said the same as an earlier one, and are events of their own."""

    def __call__(self, row: Row) -> str:
        """The id. Raises RejectedError where the row has none."""
        ...


class LineIdentity:
    """The place in the file: good as long as rows are added at its end alone."""

    wins = False
    repeated = 0

    def __call__(self, row: Row) -> str:
        """``line-N``."""
        return f"{LINE_PREFIX}{row.line}"


class RowIdentity:
    """What the row says, in all its columns, whatever their order. The n-th row that says the same is another event.

    Remembers a number of 8 bytes for each row.
    """

    wins = True

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self.repeated = 0

    def __call__(self, row: Row) -> str:
        """``row-`` with a hash; ``-2`` and so on behind it for rows that say the same."""
        said = {name: value for name, value in row.values.items() if not is_empty(value)}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).digest()
        number = int.from_bytes(digest[:8])
        self._seen[number] += 1
        again = self._seen[number]
        self.repeated += again > 1
        return f"{ROW_PREFIX}{digest[:16].hex()}" + (f"-{again}" if again > 1 else "")


class ColumnsIdentity:
    """What some columns say: of one column its value, of several a JSON array of their values."""

    wins = True
    repeated = 0

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def __call__(self, row: Row) -> str:
        """The id; a hash of it where it would be longer than an id may be."""
        values = [as_text(_plain(cell(row.values, name))) for name in self._names]
        if not any(values):
            raise RejectedError(Reason.INVALID_EVENT, Fault("id", f"is empty: {', '.join(self._names)}"))
        text = values[0] if len(values) == 1 else json.dumps(values, ensure_ascii=False)
        if len(text.encode(errors="surrogateescape")) <= _ID_BYTES_MAX:
            return text
        return f"sha256-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}"


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def identity_from(names: Sequence[str]) -> Identity:
    """What ``--id-from`` asks for. Raises ValueError where it makes no sense."""
    if not names or list(names) == [LINE]:
        return LineIdentity()
    if list(names) == [ROW]:
        return RowIdentity()
    if {LINE, ROW} & set(names):
        raise ValueError(f"--id-from: {LINE} and {ROW} stand alone; else name columns, separated by commas")
    return ColumnsIdentity(names)
