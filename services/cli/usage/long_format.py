"""Rows of a table in long format, one for each unit, put together to one row for each act."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.cli.usage.cells import as_text, cell, is_empty
from services.cli.usage.sources import Row, RowReason, Rows, Unreadable
from services.domain.faults import Fault
from services.messages.usage_events import Rejection
from services.runtime.command_failed import CommandFailed

GROUPS_MAX = 1_000_000


@dataclass(frozen=True)
class LongFormat:
    """One column names the unit, another has the count."""

    unit_from: str
    count_from: str
    together: Sequence[str]
    """The columns that are the same in all rows of one act."""
    units: frozenset[str]
    """The units that some field is filled from."""
    ignored: frozenset[str] = frozenset()
    """Units that are passed over."""

    def rows(self, rows: Rows) -> Rows:
        """A row for each act, with a column for each of its units; where it begins is its line.

        All are held in memory, for rows of one act need not stand together. What says a unit twice is refused: nobody
        knows whether it was logged twice or used twice. Raises CommandFailed for more than ``GROUPS_MAX`` of them.
        """
        acts: dict[tuple[str, ...], _Act] = {}
        for row in rows:
            if isinstance(row, Unreadable):
                yield row
                continue
            key = tuple(as_text(cell(row.values, name)) for name in self.together)
            act = acts.setdefault(key, _Act(row))
            self._take_in(act, row)
            if len(acts) > GROUPS_MAX:
                raise CommandFailed(f"--unit-from: there are more than {GROUPS_MAX:,} acts; publish parts of the file")
        yield from self._whole(acts.values())

    def _take_in(self, act: _Act, row: Row) -> None:
        unit = as_text(cell(row.values, self.unit_from))
        count = cell(row.values, self.count_from)
        if unit in self.ignored or is_empty(count):
            return
        if unit not in self.units:
            known = ", ".join(sorted(self.units)) or "none"
            problem = f"{unit!r} fills no field (those that do: {known}); --map FIELD={unit}, or --ignore-unit {unit}"
            act.fault = act.fault or Fault(self.unit_from, problem)
        elif unit in act.counts:
            act.fault = act.fault or Fault(self.unit_from, f"{unit!r} is there twice, on line {row.line} again")
        act.counts[unit] = count

    def _whole(self, acts: Any) -> Iterator[Row | Unreadable]:
        for act in acts:
            if act.fault is not None:
                yield Unreadable(act.first.line, Rejection.of(RowReason.UNREADABLE_ROW, act.fault))
            elif act.counts:
                others = {name: each for name, each in act.first.values.items() if name not in self._own}
                # A unit of which nothing was used has no row: its column is empty, not missing.
                yield Row(act.first.line, others | dict.fromkeys(self.units) | act.counts)

    @property
    def _own(self) -> frozenset[str]:
        return frozenset({self.unit_from, self.count_from})


@dataclass
class _Act:
    first: Row
    counts: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
