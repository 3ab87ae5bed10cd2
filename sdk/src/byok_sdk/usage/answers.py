"""Looking into answers: parsed JSON, or the objects of a provider's package, which are read by the same names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

Path = tuple[str, ...]
"""Names from the outside in. A name may be ``[field=value]``: of a list, the element of which this holds."""

_ELEMENT = re.compile(r"\[(\w+)=(\w+)\]")
_UPPER = re.compile(r"(?<=[a-z0-9])([A-Z])")


def look(answer: Any, path: Path) -> Any:
    """What stands at ``path``; None where there is nothing."""
    found = answer
    for name in path:
        element = _ELEMENT.fullmatch(name)
        found = _field(found, name) if element is None else _element(found, *element.groups())
        if found is None:
            return None
    return found


def shown(path: Path) -> str:
    """The path as an error names it."""
    return ".".join(path).replace(".[", "[")


def elements(value: Any) -> Iterable[Any]:
    """The elements of a list; of anything else none."""
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def plain(value: Any) -> Any:
    """An enum of a provider's package as its value; all else as it is."""
    return value.value if isinstance(value, Enum) else value


def names_of(value: Any) -> list[str]:
    """Which fields something has, for an error to name."""
    if isinstance(value, Mapping):
        return sorted(map(str, value))
    dump = getattr(value, "model_dump", None)
    return sorted(map(str, dump())) if callable(dump) else []


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        found = value.get(name)
        # google-genai writes its own dicts with underscores, as its objects.
        return value.get(_underscored(name)) if found is None else found
    found = getattr(value, name, None)
    return getattr(value, _underscored(name), None) if found is None else found


def _element(value: Any, field: str, wanted: str) -> Any:
    for each in elements(value):
        if plain(_field(each, field)) == wanted:
            return each
    return None


def _underscored(name: str) -> str:
    return _UPPER.sub(r"_\1", name).lower()
