"""What an export consists of: which entries, up to which position, in which form; it holds a place meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from services.books.tables import VIEW
from services.ledger import focus
from services.ledger.export import Contents, Export, Pieces, csv_lines, focus_lines, json_lines
from services.ledger.export_slots import ExportSlots
from services.ledger.feed_position import require_stands
from services.ledger.query import ExportQuery, Selection
from services.ledger.registry import RegistryView
from services.ledger.repository import EntryRepository, SqlRow, by_name

# Each may hold a connection; what is left of the pool is for everything else.
_EXPORTS_MAX = 8
_EXPORTS_OF_ONE_MAX = 4


class Exports:
    """Opens exports."""

    def __init__(self, entries: EntryRepository, registry: RegistryView, platform: str) -> None:
        """``platform`` is the name of who sells."""
        self._entries = entries
        self._registry = registry
        self._platform = platform
        self.slots = ExportSlots(_EXPORTS_MAX, _EXPORTS_OF_ONE_MAX)

    def open(self, selection: Selection, query: ExportQuery) -> Export:
        """The file, which the caller closes. Raises 503 ``busy``, or 409 ``ahead_of_ledger``."""
        if query.after is None:
            return Export(self._whole(selection, query))
        return Export(self._from_place(selection, query, query.after))

    @contextmanager
    def _whole(self, selection: Selection, query: ExportQuery) -> Iterator[Contents]:
        with (
            self.slots.taken(selection.org_id),
            self._entries.stream(selection, with_event=query.format == "focus") as extract,
        ):
            yield Contents(extract.position, self._pieces(extract.rows, query))

    @contextmanager
    def _from_place(self, selection: Selection, query: ExportQuery, after: int) -> Iterator[Contents]:
        with self.slots.taken(selection.org_id):
            require_stands(self._entries, after)
            upto = self._entries.newest_position()
            rows = self._entries.placed(selection, after, upto, with_event=query.format == "focus")
            yield Contents(upto, self._pieces(rows, query, "position"))

    def _pieces(self, rows: Iterator[SqlRow], query: ExportQuery, *more: str) -> Pieces:
        match query.format:
            case "csv":
                return csv_lines(rows, (*VIEW, *more))
            case "jsonl":
                return json_lines(rows, (*VIEW, *more))
            case "focus":
                names = (*focus.COLUMNS, *([focus.POSITION] if more else []))
                terms = focus.Terms(self._platform, query.billed)
                return focus_lines(by_name(rows), self._registry.card_named, terms, names)
            case _:
                assert_never(query.format)
