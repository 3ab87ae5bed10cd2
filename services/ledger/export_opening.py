"""What an export consists of: which entries, up to which position, in which form; it holds a place meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from services.books.tables import VIEW
from services.ledger import focus
from services.ledger.export import Contents, Export, Pieces, csv_lines, focus_lines, json_lines
from services.ledger.export_slots import ExportSlots
from services.ledger.query import ExportQuery, Selection
from services.ledger.refusals import Code
from services.ledger.registry import RegistryView
from services.ledger.repository import EntryRepository, SqlRow, by_name
from services.runtime.refusals import Refusal

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
            self._require_stands(after)
            upto = self._entries.newest_position()
            rows = self._entries.placed(selection, after, upto, with_event=query.format == "focus")
            yield Contents(upto, self._pieces(rows, query, "position"))

    def _require_stands(self, after: int) -> None:
        last = self._entries.last_position(after)
        if last < after:
            raise Refusal(
                Code.AHEAD_OF_LEDGER,
                f"No entry has the position {after}: the ledger was set back, and the last one before it is {last}. "
                "Take back what you have of positions above that one, and go on after it.",
            )

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
