"""The fields of a usage event (docs/contract.md, section 3) as options name them, and what a cell means in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from schemas.dead_letters import Reason
from schemas.usage_events import EVENT_MODELS
from services.cli.usage.cells import as_text
from services.cli.usage.times import has_lost_digits
from services.domain.faults import Fault
from services.messages.usage_events import RejectedError

ATTRIBUTES = ("id", "source", "type", "time")
UNITS = (
    *("input", "cache_read", "cache_write_5m", "cache_write_1h", "cache_write_12h", "input_audio", "input_image"),
    *("output", "reasoning", "output_audio", "output_image", "web_search"),
)
"""What our cards name in ``usage``; others are written with it: ``usage.NAME``."""
BILLED_BY_DEFAULT = frozenset({"calls", "succeeded"})
"""What is charged where nothing is said: so nothing is taken for said by an empty cell."""
_WHOLE = re.compile(r"(\d{1,18})(?:\.(0+))?", re.ASCII)


def rejected(name: str, problem: str) -> RejectedError:
    """What is wrong with a field, as any reader of events says it."""
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


def _names(model: Any) -> frozenset[str]:
    return frozenset(model.model_fields["data"].annotation.model_fields)


_FIELDS_OF = {event_type: _names(model) for event_type, model in EVENT_MODELS.items()}


def fields_of(event_type: Any) -> frozenset[str]:
    """The fields of ``data`` in events of this type; none where it is no type of ours."""
    return _FIELDS_OF.get(event_type, frozenset()) if isinstance(event_type, str) else frozenset()


def counts_of(event_type: str | None) -> frozenset[str]:
    """The names under which tokens of an event of this type are counted, as columns may be called."""
    fields = fields_of(event_type)
    own = {name for name in fields & DATA_FIELDS.keys() if DATA_FIELDS[name] is int} - BILLED_BY_DEFAULT
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
    # int() alone would take 1_000 and digits of other scripts; 1.000 is a thousand to some, and one to others.
    match = _WHOLE.fullmatch(text)
    if match is None:
        if has_lost_digits(text):
            raise rejected(name, "has lost digits in a spreadsheet; export the column as text")
        raise rejected(name, "must be a whole number")
    if match[2] == "000" and len(match[1]) <= 3:
        raise rejected(name, f"may be {match[1]} or {match[1]}000; write it without the point")
    return int(match[1])


def _truth(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise rejected(name, "must be true or false")
    return text == "true"


def _claim(text: str) -> dict[str, str]:
    source, _, credential_id = text.partition(":")
    if source == "platform" and not credential_id:
        return {"source": "platform"}
    if source == "byok" and credential_id:
        return {"source": "byok", "credential_id": credential_id}
    raise rejected("credential", "must be platform or byok:<credential id>")
