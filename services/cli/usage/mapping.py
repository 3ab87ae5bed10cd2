"""From a file's columns to the fields of a usage event (docs/contract.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from schemas.dead_letters import Reason
from schemas.usage_events import EVENT_MODELS
from services.cli.usage.sources import Row
from services.domain.faults import Fault
from services.messages.usage_events import RejectedError

ATTRIBUTES = ("id", "source", "type", "time")


def _rejected(field: str, problem: str) -> RejectedError:
    return RejectedError(Reason.INVALID_EVENT, Fault(field, problem))


def _data_fields() -> dict[str, type]:
    """Every field of ``data`` with the type its values have in JSON; ``dict`` for the claim."""
    fields: dict[str, type] = {}
    for model in EVENT_MODELS.values():
        data: Any = model.model_fields["data"].annotation
        for name, field in data.model_fields.items():
            fields[name] = field.annotation if field.annotation in (int, bool) else str
    return fields | {"credential": dict}


DATA_FIELDS = _data_fields()
FIELDS = (*ATTRIBUTES, *DATA_FIELDS)


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` pairs of a repeatable option. Raises ValueError naming the pair that is wrong."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        field = field.strip().removeprefix("data.")
        if not equals or not value:
            raise ValueError(f"{option} {pair}: write FIELD=…")
        if field not in FIELDS:
            raise ValueError(f"{option} {pair}: there is no field {field!r}; fields are {', '.join(FIELDS)}")
        if field in parsed:
            raise ValueError(f"{option} {pair}: {field} is given twice")
        parsed[field] = value
    return parsed


def typed(field: str, text: str) -> Any:
    """A value written as text, as JSON wants it: counts are integers, ``credential`` is an object.

    Raises RejectedError where the text is no such value.
    """
    kind = str if field in ATTRIBUTES else DATA_FIELDS[field]
    if kind is int:
        return _whole_number(field, text.strip())
    if kind is bool:
        return _truth(field, text.strip().lower())
    return text if kind is str else _claim(text.strip())


def _whole_number(field: str, text: str) -> int:
    # int() alone would take 1_000 and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _rejected(field, "must be a whole number")
    return int(text)


def _truth(field: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise _rejected(field, "must be true or false")
    return text == "true"


def _claim(text: str) -> dict[str, str]:
    source, _, credential_id = text.partition(":")
    if source == "platform" and not credential_id:
        return {"source": "platform"}
    if source == "byok" and credential_id:
        return {"source": "byok", "credential_id": credential_id}
    raise _rejected("credential", "must be platform or byok:<credential id>")


class EventBuilder:
    """Makes a CloudEvent of each row. What ``fixed`` gives wins over the file; what the file lacks gets a default.

    The default identity is where the row stands: ``source`` as given, ``id`` ``line-N``. So the same file published
    again for the same organization makes the same events, which the ledger books once.
    """

    def __init__(
        self,
        *,
        columns: Mapping[str, str] | None,
        fixed: Mapping[str, str],
        event_type: str | None,
        source: str,
        read_time: Callable[[Any], datetime | None],
        shift: Callable[[datetime], datetime],
    ) -> None:
        """``columns``: field to column of flat rows; None where each row is an event already. Raises RejectedError."""
        self._columns = columns
        values = {field: typed(field, text) for field, text in fixed.items()}
        self._fixed_attributes = {field: value for field, value in values.items() if field in ATTRIBUTES}
        self._fixed_data = {field: value for field, value in values.items() if field not in ATTRIBUTES}
        self._type = event_type
        self._source = source
        self._read_time = read_time
        self._shift = shift

    def event(self, row: Row) -> dict[str, Any]:
        """The event, for the reader of events to check. Raises RejectedError where a cell cannot become its field."""
        event = dict(row.values) if self._columns is None else self._from_columns(row, self._columns)
        event.update(self._fixed_attributes)
        # The time comes first: a row that is rejected for something else still is the first row of its trace.
        at = self._time(event.get("time"))
        if at is not None:
            event["time"] = at.isoformat()
        event.setdefault("specversion", "1.0")
        event.setdefault("source", self._source)
        event.setdefault("id", f"line-{row.line}")
        if self._type is not None:
            event.setdefault("type", self._type)
        if self._columns is not None:
            event["data"] = self._data_from_columns(row, self._columns) | self._fixed_data
        elif self._fixed_data and isinstance(data := event.get("data", {}), dict):
            event["data"] = data | self._fixed_data
        return event

    def _time(self, value: Any) -> datetime | None:
        if value is None:
            return None
        try:
            at = self._read_time(value)
            return None if at is None else self._shift(at)
        except ValueError as error:
            raise _rejected("time", str(error)) from None

    def _from_columns(self, row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
        cells = ((field, row.values.get(columns[field])) for field in ATTRIBUTES if field in columns)
        return {field: value for field, value in cells if not _is_empty(value)}

    def _data_from_columns(self, row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for field, column in columns.items():
            value = row.values.get(column)
            # A fixed value stands in for a cell, so the cell need not be readable.
            if field in ATTRIBUTES or field in self._fixed_data or _is_empty(value):
                continue
            data[field] = typed(field, value) if isinstance(value, str) else value
        return data


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def columns_for(given: Mapping[str, str], present: Iterable[str]) -> dict[str, str]:
    """Which column fills which field: as ``given``, and a column named like a field fills that field.

    Raises ValueError where a given column is not there.
    """
    names = tuple(present)
    for field, column in given.items():
        if column not in names:
            raise ValueError(f"--map {field}={column}: the file has no such column; it has {', '.join(names)}")
    return {field: field for field in FIELDS if field in names} | dict(given)
