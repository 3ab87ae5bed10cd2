"""The good event, read in a microsecond or two. Of what it does not take it says nothing.

Nearly all events are good and plain: printable ASCII without escapes. Those are checked by msgspec against types that
are made of the models which say what an event is, so that no rule is written twice. What is not taken is read by the
models, who alone refuse, in words; what is taken they would read as the same event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from schemas.fields import NO_CONTROL_CHARACTERS, WithinBytes, parse_time
from schemas.usage_events import EVENT_MODELS
from services.domain.usage import UsageEvent
from services.messages.core_events import to_event

_Check = Callable[[Any], object]


def is_plain(json: bytes) -> bool:
    """Whether the texts in it are printable ASCII as they stand: no control characters, as many bytes as characters."""
    return json.isascii() and b"\\" not in json and b"\x7f" not in json


def good_event(raw: Any, *, plain: bool) -> UsageEvent | None:
    """The event in an element that JSON was decoded to; None where the models have to look at it.

    ``plain`` says that what it was decoded from is.
    """
    try:
        shape = _SHAPES[raw["type"]]
        if not plain and not is_plain(orjson.dumps(raw)):
            return None
        message: Any = msgspec.convert(raw, shape)
        return to_event(message, parse_time(message.time))
    except (LookupError, TypeError, ValueError):
        return None


def _shape(model: type[BaseModel], tagged_by: str | None = None) -> type[msgspec.Struct]:
    """A type with the fields of a model that checks what the model does. Raises TypeError where it could not."""
    members = {name: each for name, each in model.model_fields.items() if name != tagged_by}
    checks = [
        *(_of_field(name, check) for name, field in members.items() for check in _checks(field.metadata)),
        *(each.func for each in model.__pydantic_decorators__.model_validators.values()),
    ]
    return msgspec.defstruct(
        model.__name__,
        [_field(name, field) for name, field in members.items()],
        namespace={"__post_init__": _all_of(checks)} if checks else None,
        tag_field=tagged_by,
        tag=None if tagged_by is None else get_args(model.model_fields[tagged_by].annotation)[0],
        kw_only=True,
        gc=False,
    )


def _field(name: str, field: FieldInfo) -> tuple[str, Any, Any]:
    checks = _checks(field.metadata)
    metadata = [each for each in field.metadata if getattr(each, "func", None) not in checks]
    default = msgspec.NODEFAULT if field.is_required() else field.get_default(call_default_factory=True)
    return name, _type(field.annotation, metadata), default


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> Any:
    """What msgspec checks in place of a field. Raises TypeError for what nobody has thought of here."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], [*inner[1:], *metadata])
    if origin is dict:
        return Annotated[dict[_type(inner[0]), _type(inner[1])], _bounds(metadata)]  # type: ignore[misc]
    if origin in {Union, UnionType}:
        return _union(inner, metadata)
    if annotation is datetime and metadata[0] == BeforeValidator(parse_time):
        return str
    if annotation in {str, int, bool}:
        return Annotated[annotation, _bounds(metadata)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _shape(annotation)
    if annotation is NoneType or origin is Literal:
        return annotation
    raise TypeError(f"nobody has said how {annotation} is read")


def _union(members: Iterable[Any], metadata: Iterable[Any]) -> Any:
    tagged_by: Any = next((each.discriminator for each in metadata if isinstance(each, FieldInfo)), None)
    types = (_type(each) if tagged_by is None else _shape(each, tagged_by) for each in members)
    return reduce(or_, types)


def _bounds(metadata: Iterable[Any]) -> msgspec.Meta:
    """The bounds as msgspec has them; those that it does not know it refuses."""
    each_of = [inner for each in metadata for inner in (each.metadata if isinstance(each, FieldInfo) else (each,))]
    said = {field.name: getattr(each, field.name) for each in each_of for field in fields(each)}
    return msgspec.Meta(**{name: value for name, value in said.items() if not _goes_without_saying(name, value)})


def _goes_without_saying(name: str, value: Any) -> bool:
    """Whether it is true of all plain texts, of all that msgspec reads strictly, or nothing at all."""
    return value is None or value == NO_CONTROL_CHARACTERS or isinstance(value, WithinBytes) or name == "strict"


def _checks(metadata: Iterable[Any]) -> list[_Check]:
    """What has to be called to check a field; plain texts have as many bytes as characters."""
    found: Iterable[Any] = (each.func for each in metadata if isinstance(each, AfterValidator))
    return [each for each in found if not isinstance(each, WithinBytes)]


def _of_field(name: str, check: _Check) -> _Check:
    return lambda said: check(getattr(said, name))


def _all_of(checks: Sequence[_Check]) -> _Check:
    if len(checks) == 1:
        return checks[0]

    def each_of_them(said: Any) -> None:
        for check in checks:
            check(said)

    return each_of_them


_SHAPES = {event_type: _shape(model) for event_type, model in EVENT_MODELS.items()}
