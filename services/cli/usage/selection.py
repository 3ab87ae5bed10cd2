"""Which rows of a file are meant at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.cli.usage.cells import as_text, cell
from services.cli.usage.sources import Row, Rows, Unreadable

Where = Mapping[str, tuple[str, ...]]
"""Of each of these columns the texts that are wanted."""


def parse_where(pairs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``COL=VALUE`` pairs; several of one column: any of its values. Raises ValueError that names a wrong one."""
    parsed: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not equals or not column.strip():
            raise ValueError(f"--where {pair}: write COLUMN=VALUE")
        parsed[column.strip()] = (*parsed.get(column.strip(), ()), value.strip())
    return parsed


class Selection:
    """Passes on the rows in which every column says one of the texts that are wanted of it."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self.left_out = 0
        """How many rows were not passed on."""

    def rows(self, rows: Rows) -> Rows:
        """Those that are wanted; what is unreadable is passed on, to be refused."""
        for row in rows:
            if isinstance(row, Unreadable) or self._wants(row):
                yield row
            else:
                self.left_out += 1

    def _wants(self, row: Row) -> bool:
        return all(as_text(cell(row.values, column)) in values for column, values in self._where.items())
