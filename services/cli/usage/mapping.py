"""From a row to a usage event: which columns fill which fields, and what cells say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.usage_events import EVENT_MODELS
from services.cli.usage.cells import as_text, cell, is_empty, is_there, may_be_missing
from services.cli.usage.fields import (
    ATTRIBUTES,
    BILLED_BY_DEFAULT,
    DATA_FIELDS,
    FIELDS,
    NAMED_FIELDS,
    UNITS,
    counts_of,
    fields_of,
    kind_of,
    rejected,
    typed,
)
from services.cli.usage.identity import Identity, LineIdentity
from services.cli.usage.sources import Row
from services.cli.usage.times import TimeReader
from services.domain.usage import EventType

_OUR_TYPES = "usage."
_SUMS = EventType.TOKEN_USAGE.value
_IN_SUMS = {
    "usage.input": "input_tokens",
    "usage.cache_read": "cached_input_tokens",
    "usage.output": "output_tokens",
}
"""What units are called in events that are sums over requests."""
_NOTHING = re.compile(r"(0(\.0+)?)?")

Columns = Mapping[str, Sequence[str]]
"""Which columns fill a field; several are added up."""


@dataclass(frozen=True)
class Mapped:
    """How the fields of an event are filled."""

    columns: Columns | None
    """None where each row is an event already."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Fields with the same value in every event: they win over the file."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """What an empty cell of a field's columns means."""
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """What some texts mean in a field, in other words than ours; None: nothing."""
    explicit: frozenset[str] = frozenset()
    """Fields whose columns were named, and so have to be there."""


class EventBuilder:
    """Makes a CloudEvent of each row. What is fixed wins over the file; what the file lacks gets a default.

    The default identity is where the row stands: ``source`` as given, ``id`` ``line-N``. So the same file published
    again for the same organization makes the same events, which the ledger books once.
    """

    def __init__(
        self,
        mapped: Mapped,
        *,
        event_type: str | None,
        source: str,
        read_time: TimeReader,
        shift: Callable[[datetime], datetime],
        identity: Identity | None = None,
    ) -> None:
        """``event_type`` is for rows that name no type of ours. Raises RejectedError for a fixed value that is none."""
        self._mapped = mapped
        self._columns = mapped.columns
        fixed = {name: typed(name, text) for name, text in mapped.fixed.items()}
        self._fixed_attributes = {name: value for name, value in fixed.items() if name in ATTRIBUTES}
        self._fixed_data = {name: value for name, value in fixed.items() if name not in ATTRIBUTES}
        self._defaults = {name: typed(name, text) for name, text in mapped.defaults.items()}
        self._type = event_type
        self._source = source
        self._read_time = read_time
        self._shift = shift
        self._identity = identity or LineIdentity()
        # Of rows that are no events, and whose keys are nowhere said to be something else.
        self._own_names = columns_for({}, None, event_type=event_type)
        columns = self._own_names if mapped.columns is None else mapped.columns
        # A fixed value stands in for a cell, so the cell need not be readable.
        self._data_columns = {
            name: its for name, its in columns.items() if name not in ATTRIBUTES and name not in self._fixed_data
        }
        self._filled = {name.partition(".")[0] for name in mapped.explicit}
        self._columns_by_type: dict[str, Sequence[tuple[str, Sequence[str]]]] = {}
        of_type = fields_of(event_type)
        self.counts = tuple(
            name
            for name in ({} if mapped.columns is None else self._data_columns)
            if kind_of(name) is int and (name in mapped.explicit or not of_type or name.partition(".")[0] in of_type)
        )
        """The counts that the rows fill; none where rows are events."""
        self.unseen = {
            column
            for name, its in (mapped.columns or {}).items()
            for column in its
            if name in mapped.explicit and not may_be_missing(column)
        }
        """Columns that were named, and of which no row has had anything yet."""

    def counts_nothing(self, row: Row) -> bool:
        """Whether every count of the row is empty or 0."""
        cells = (cell(row.values, column) for name in self.counts for column in self._data_columns[name])
        return all(_NOTHING.fullmatch(as_text(value)) for value in cells)

    def event(self, row: Row) -> dict[str, Any]:
        """The event, for the reader of events to check. Raises RejectedError where a cell cannot become its field."""
        columns = self._columns_of(row)
        event = dict(row.values) if columns is None else self._attributes(row, columns)
        event.update(self._fixed_attributes)
        # The time comes first: a row that is rejected for something else still is the first row of its trace.
        at = self._time(event.get("time"))
        if at is not None:
            event["time"] = at.isoformat()
        event.setdefault("specversion", "1.0")
        event.setdefault("source", self._source)
        if self._identity.wins or "id" not in event:
            event["id"] = self._identity(row)
        if self._type is not None and not _is_type(event.get("type")):
            event["type"] = self._type
        if columns is not None:
            data = self._data(row, event.get("type")) | self._fixed_data
            event["data"] = _nested(_as_sum(data) if event.get("type") == _SUMS else data)
        elif self._fixed_data and isinstance(data := event.get("data", {}), dict):
            event["data"] = _merged(data, _nested(self._fixed_data))
        return event

    def _columns_of(self, row: Row) -> Columns | None:
        """Which columns fill which fields of this row; None where it is an event."""
        if self._columns is not None:
            return self._columns
        is_event = {"data", "specversion"} & row.values.keys() or not row.values.keys() & DATA_FIELDS.keys()
        return None if is_event else self._own_names

    def _time(self, value: Any) -> datetime | None:
        if value is None:
            return None
        try:
            at = self._read_time(value)
            return None if at is None else self._shift(at)
        except ValueError as error:
            raise rejected("time", str(error)) from None

    def _attributes(self, row: Row, columns: Columns) -> dict[str, Any]:
        cells = ((name, self._cell(row, columns[name][0])) for name in ATTRIBUTES if name in columns)
        said = {name: self._said(name, value) for name, value in cells}
        filled = {name: value for name, value in said.items() if not is_empty(value)}
        defaults = {name: self._defaults[name] for name in ATTRIBUTES if name in self._defaults}
        # A time may be a number; any other attribute is text, whatever a file of JSON has it as.
        return defaults | {name: value if name == "time" else typed(name, value) for name, value in filled.items()}

    def _data(self, row: Row, event_type: Any) -> dict[str, Any]:
        of_type = fields_of(event_type)
        data: dict[str, Any] = {}
        for name, columns in self._own_columns(event_type):
            value = self._value(name, columns, row)
            if value is not None:
                data[name] = value
            elif name in BILLED_BY_DEFAULT & of_type and self._is_asked(name, columns, row):
                raise rejected(
                    name, f"is empty, which says nothing; --default {name}=… or --skip-empty says what to do"
                )
        return self._objects(row, of_type) | data

    def _own_columns(self, event_type: Any) -> Sequence[tuple[str, Sequence[str]]]:
        """Without what only happens to be called like a field of other types; once for each type."""
        of_type = fields_of(event_type)
        key = event_type if of_type else ""
        if key not in self._columns_by_type:
            explicit = self._mapped.explicit
            self._columns_by_type[key] = [
                (name, columns)
                for name, columns in self._data_columns.items()
                if not of_type or name in explicit or name.partition(".")[0] in of_type
            ]
        return self._columns_by_type[key]

    def _objects(self, row: Row, of_type: frozenset[str]) -> dict[str, Any]:
        """Fields with names of their own that the row has as a whole."""
        found = {name: row.values.get(name) for name in NAMED_FIELDS if name in of_type and name not in self._filled}
        return {name: value for name, value in found.items() if isinstance(value, dict)}

    def _is_asked(self, name: str, columns: Sequence[str], row: Row) -> bool:
        is_named = name in self._mapped.explicit and not all(map(may_be_missing, columns))
        return is_named or any(column in row.values for column in columns)

    def _value(self, name: str, columns: Sequence[str], row: Row) -> Any:
        """What the columns say of a field; None where they say nothing."""
        said = [self._said(name, self._cell(row, column)) for column in columns]
        default = self._defaults.get(name)
        if len(said) == 1 or all(map(is_empty, said)):
            return default if is_empty(said[0]) else typed(name, said[0])
        empty = [column for column, value in zip(columns, said, strict=True) if is_empty(value)]
        if empty and default is None:
            raise rejected(name, f"{', '.join(empty)} is empty; --default {name}=0 says that it counts nothing")
        return sum(_part(name, default if is_empty(value) else typed(name, value)) for value in said)

    def _cell(self, row: Row, column: str) -> Any:
        value = cell(row.values, column)
        if self.unseen and value is not None:
            self.unseen.discard(column)
        return value

    def _said(self, name: str, value: Any) -> Any:
        meaning = self._mapped.values.get(name)
        return value if meaning is None else meaning.get(as_text(value), value)


def _part(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise rejected(name, "must be a whole number")
    return value


def _is_type(value: Any) -> bool:
    """Whether a column called ``type`` holds a type of event: ours, or one that looks like ours and is misspelt."""
    return isinstance(value, str) and (value in EVENT_MODELS or value.startswith(_OUR_TYPES))


def _as_sum(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is mapped to units as an event of v1 says it. Raises RejectedError where it cannot say all of it."""
    for name, value in data.items():
        if "." in name and name not in _IN_SUMS and value:
            raise rejected(name, f"{value} cannot be said by {_SUMS}, which knows input, cached input and output")
    said = {_IN_SUMS.get(name, name): value for name, value in data.items()}
    return {name: value for name, value in said.items() if "." not in name}


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    """``usage.input`` as ``input`` in ``usage``."""
    nested: dict[str, Any] = {}
    for name, value in data.items():
        head, dot, tail = name.partition(".")
        if dot:
            nested[head] = {**nested.get(head, {}), tail: value}
        else:
            nested[name] = value
    return nested


def _merged(data: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**data, **fixed}
    for name in NAMED_FIELDS:
        if isinstance(data.get(name), dict) and isinstance(fixed.get(name), dict):
            merged[name] = data[name] | fixed[name]
    return merged


def columns_for(
    given: Mapping[str, str],
    present: Iterable[str] | None,
    *,
    event_type: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Which columns fill which field: as ``given``, and a column named like a field fills that field.

    ``present`` are the columns of a table; None for objects, which need not have the same keys. Columns that are joined
    with ``+`` are added up. Raises ValueError where a given column is not there, or what is no count is added up.
    """
    table = None if present is None else tuple(present)
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in FIELDS if table is None or name in table}
    units = counts_of(event_type) & set(UNITS)
    found |= {f"usage.{name}": (name,) for name in UNITS if name in units and (table is None or name in table)}
    for name, text in given.items():
        columns = _columns(text, table)
        if len(columns) > 1 and kind_of(name) is not int:
            raise ValueError(f"--map {name}={text}: only counts can be added up")
        absent = [] if table is None else [column for column in columns if not is_there(table, column)]
        missing = [column for column in absent if not may_be_missing(column)]
        # What may be missing has empty cells then.
        found[name] = columns
        if missing:
            has = f"it has {', '.join(table or ())}"
            raise ValueError(f"--map {name}={text}: the file has no such column as {missing[0]}; {has}")
    return found


def _columns(text: str, table: tuple[str, ...] | None) -> tuple[str, ...]:
    if table is not None and is_there(table, text):
        return (text,)
    return tuple(part.strip() for part in text.split("+"))
