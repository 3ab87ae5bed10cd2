"""From a row to a usage event (docs/contract.md, section 3): which columns fill which fields, and what cells mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from schemas.dead_letters import Reason
from schemas.usage_events import EVENT_MODELS
from services.cli.usage.cells import as_text, cell, is_empty, is_there, may_be_missing
from services.cli.usage.identity import Identity, LineIdentity
from services.cli.usage.sources import Row
from services.cli.usage.times import TimeReader, has_lost_digits
from services.domain.faults import Fault
from services.domain.usage import EventType
from services.messages.usage_events import RejectedError

ATTRIBUTES = ("id", "source", "type", "time")
UNITS = (
    *("input", "cache_read", "cache_write_5m", "cache_write_1h", "cache_write_12h", "input_audio", "input_image"),
    *("output", "reasoning", "output_audio", "output_image", "web_search"),
)
"""What our cards name in ``usage``; others are written with it: ``usage.NAME``."""
_BILLED_BY_DEFAULT = frozenset({"calls", "succeeded"})
"""What is charged where nothing is said: so nothing is taken for said by an empty cell."""
_OUR_TYPES = "usage."
_SUMS = EventType.TOKEN_USAGE.value
_IN_SUMS = {
    "usage.input": "input_tokens",
    "usage.cache_read": "cached_input_tokens",
    "usage.output": "output_tokens",
}
"""What units are called in events that are sums over requests."""
_NOTHING = re.compile(r"(0(\.0+)?)?")


def _rejected(name: str, problem: str) -> RejectedError:
    return RejectedError(Reason.INVALID_EVENT, Fault(name, problem))


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field's values may have, without what restricts them."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (dict, Mapping):
        return [annotation]
    inner = [kind for each in get_args(annotation) for kind in _kinds(each) if kind is not NoneType]
    return inner or [annotation]


def _kind(annotation: Any) -> type:
    """How a field's values are written in JSON; ``dict`` for the claim."""
    (first, *others) = _kinds(annotation)
    return first if not others and first in (int, bool) else str


def _data_fields() -> tuple[dict[str, type], dict[str, type]]:
    """Every field of ``data`` with the type of its values; then those that hold names of their own, with theirs."""
    plain: dict[str, type] = {}
    named: dict[str, type] = {}
    for model in EVENT_MODELS.values():
        data: Any = model.model_fields["data"].annotation
        for name, each in data.model_fields.items():
            kinds = _kinds(each.annotation)
            if get_origin(kinds[0]) in (dict, Mapping):
                named[name] = _kind(get_args(kinds[0])[1])
            else:
                plain[name] = _kind(each.annotation)
    return plain | {"credential": dict}, named


DATA_FIELDS, NAMED_FIELDS = _data_fields()
FIELDS = (*ATTRIBUTES, *DATA_FIELDS)


def _fields_of(event_type: Any) -> frozenset[str]:
    model = EVENT_MODELS.get(event_type) if isinstance(event_type, str) else None
    data: Any = None if model is None else model.model_fields["data"].annotation
    return frozenset() if data is None else frozenset(data.model_fields)


_FIELDS_OF = {event_type: _fields_of(event_type) for event_type in EVENT_MODELS}


def counts_of(event_type: str | None) -> frozenset[str]:
    """The names under which tokens of an event of this type are counted, as columns may be called."""
    fields = _FIELDS_OF.get(event_type or "", frozenset())
    own = {name for name in fields & DATA_FIELDS.keys() if DATA_FIELDS[name] is int} - _BILLED_BY_DEFAULT
    return frozenset(own | (set(UNITS) if "usage" in fields else set()))


def target(name: str) -> str:
    """The field that is meant: ``data.`` may stand before it, and the name of a unit alone is one of ``usage``.

    Raises ValueError for what is no field.
    """
    name = name.strip().removeprefix("data.")
    head, dot, tail = name.partition(".")
    if name in FIELDS or (dot and tail and head in NAMED_FIELDS):
        return name
    if name in UNITS and "usage" in NAMED_FIELDS:
        return f"usage.{name}"
    named = [f"{each}.NAME" for each in NAMED_FIELDS]
    raise ValueError(f"there is no field {name!r}; fields are {', '.join((*FIELDS, *named))}")


def kind_of(name: str) -> type:
    """The type of a field's values."""
    if name in ATTRIBUTES:
        return str
    return DATA_FIELDS[name] if name in DATA_FIELDS else NAMED_FIELDS[name.partition(".")[0]]


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """``FIELD=VALUE`` pairs of a repeatable option. Raises ValueError naming the pair that is wrong."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ValueError(f"{option} {pair}: write FIELD=…")
        try:
            name = target(name)
        except ValueError as error:
            raise ValueError(f"{option} {pair}: {error}") from None
        if name in parsed:
            raise ValueError(f"{option} {pair}: {name} is given twice")
        parsed[name] = value
    return parsed


def typed(name: str, value: Any) -> Any:
    """A cell as JSON wants it in this field: counts are integers, ``credential`` is an object.

    Raises RejectedError where it is no such value.
    """
    kind = kind_of(name)
    if kind is int:
        return _whole_number(name, value)
    if not isinstance(value, str):
        return as_text(value) if kind is str and isinstance(value, int) and not isinstance(value, bool) else value
    if kind is bool:
        return _truth(name, value.strip().lower())
    return value if kind is str else _claim(value.strip())


def _whole_number(name: str, value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if has_lost_digits(text):
        raise _rejected(name, "has lost digits in a spreadsheet; export the column as text")
    # int() alone would take 1_000 and digits of other scripts; 1.000 is a thousand to some, and one to others.
    match = re.fullmatch(r"(\d{1,18})(?:\.(0+))?", text, re.ASCII)
    if match is None:
        raise _rejected(name, "must be a whole number")
    if match[2] == "000" and len(match[1]) <= 3:
        raise _rejected(name, f"may be {match[1]} or {match[1]}000; write it without the point")
    return int(match[1])


def _truth(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise _rejected(name, "must be true or false")
    return text == "true"


def _claim(text: str) -> dict[str, str]:
    source, _, credential_id = text.partition(":")
    if source == "platform" and not credential_id:
        return {"source": "platform"}
    if source == "byok" and credential_id:
        return {"source": "byok", "credential_id": credential_id}
    raise _rejected("credential", "must be platform or byok:<credential id>")


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
        of_type = _FIELDS_OF.get(event_type or "", frozenset(DATA_FIELDS))
        self.counts = tuple(
            name
            for name in ({} if mapped.columns is None else self._data_columns)
            if kind_of(name) is int and (name in mapped.explicit or name.partition(".")[0] in of_type)
        )
        """The counts that the rows fill; none where rows are events."""

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
        if self._columns is not None or "data" in row.values or not row.values.keys() & DATA_FIELDS.keys():
            return self._columns
        return self._own_names

    def _time(self, value: Any) -> datetime | None:
        if value is None:
            return None
        try:
            at = self._read_time(value)
            return None if at is None else self._shift(at)
        except ValueError as error:
            raise _rejected("time", str(error)) from None

    def _attributes(self, row: Row, columns: Columns) -> dict[str, Any]:
        cells = ((name, cell(row.values, columns[name][0])) for name in ATTRIBUTES if name in columns)
        said = {name: self._said(name, value) for name, value in cells}
        filled = {name: value for name, value in said.items() if not is_empty(value)}
        defaults = {name: self._defaults[name] for name in ATTRIBUTES if name in self._defaults}
        # A time may be a number; any other attribute is text, whatever a file of JSON has it as.
        return defaults | {name: value if name == "time" else typed(name, value) for name, value in filled.items()}

    def _data(self, row: Row, event_type: Any) -> dict[str, Any]:
        of_type = _FIELDS_OF.get(event_type, frozenset())
        data: dict[str, Any] = {}
        # What only happens to be called like a field of other types is none of this one.
        own = {*self._mapped.explicit, *(name for name in self._data_columns if name.partition(".")[0] in of_type)}
        for name, columns in self._data_columns.items():
            if of_type and name not in own:
                continue
            value = self._value(name, columns, row)
            if value is not None:
                data[name] = value
            elif name in _BILLED_BY_DEFAULT & of_type and self._is_asked(name, columns, row):
                raise _rejected(
                    name, f"is empty, which says nothing; --default {name}=… or --skip-empty says what to do"
                )
        return self._objects(row, of_type) | data

    def _objects(self, row: Row, of_type: frozenset[str]) -> dict[str, Any]:
        """Fields with names of their own that the row has as a whole."""
        mapped = {name.partition(".")[0] for name in self._mapped.explicit}
        found = {name: row.values.get(name) for name in NAMED_FIELDS if name in of_type and name not in mapped}
        return {name: value for name, value in found.items() if isinstance(value, dict)}

    def _is_asked(self, name: str, columns: Sequence[str], row: Row) -> bool:
        is_named = name in self._mapped.explicit and not all(map(may_be_missing, columns))
        return is_named or any(column in row.values for column in columns)

    def _value(self, name: str, columns: Sequence[str], row: Row) -> Any:
        """What the columns say of a field; None where they say nothing."""
        said = [self._said(name, cell(row.values, column)) for column in columns]
        default = self._defaults.get(name)
        if len(said) == 1 or all(map(is_empty, said)):
            return default if is_empty(said[0]) else typed(name, said[0])
        empty = [column for column, value in zip(columns, said, strict=True) if is_empty(value)]
        if empty and default is None:
            raise _rejected(name, f"{', '.join(empty)} is empty; --default {name}=0 says that it counts nothing")
        return sum(_part(name, default if is_empty(value) else typed(name, value)) for value in said)

    def _said(self, name: str, value: Any) -> Any:
        meaning = self._mapped.values.get(name)
        return value if meaning is None else meaning.get(as_text(value), value)


def _part(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _rejected(name, "must be a whole number")
    return value


def _is_type(value: Any) -> bool:
    """Whether a column called ``type`` holds a type of event: ours, or one that looks like ours and is misspelt."""
    return isinstance(value, str) and (value in EVENT_MODELS or value.startswith(_OUR_TYPES))


def _as_sum(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is mapped to units as an event of v1 says it. Raises RejectedError where it cannot say all of it."""
    for name, value in data.items():
        if "." in name and name not in _IN_SUMS and value:
            raise _rejected(name, f"{value} cannot be said by {_SUMS}, which knows input, cached input and output")
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
