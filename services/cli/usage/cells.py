"""What stands in a row under a name: a column, a path of keys (``usage.input_tokens``), or the first of several.

``a|b`` is ``b`` where there is no ``a``, as exports call a column otherwise after a while; ``a|`` may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.messages.json_bytes import MalformedJsonError, decode


def cell(values: Mapping[str, Any], name: str) -> Any:
    """The value under a column of that very name, else under the first of its alternatives, else under the path; None
    where there is none.

    A path also leads into a cell that holds a JSON object as text, as exports of databases write it.
    """
    if name in values:
        return values[name]
    if "|" in name:
        found = (cell(values, alternative) for alternative in name.split("|") if alternative)
        return next((value for value in found if value is not None), None)
    for at in (index for index, character in enumerate(name) if character == "."):
        inner = _object(values.get(name[:at]))
        if inner is not None:
            return cell(inner, name[at + 1 :])
    return None


def is_there(columns: tuple[str, ...], name: str) -> bool:
    """Whether a table with these columns may have something under the name."""
    if name in columns or any(name.startswith(f"{column}.") for column in columns):
        return True
    return "|" in name and any(is_there(columns, alternative) for alternative in name.split("|") if alternative)


def may_be_missing(name: str) -> bool:
    """Whether nothing need be there under the name."""
    return name.endswith("|")


def is_empty(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def as_text(value: Any) -> str:
    """What a table would have in a cell for this value of a JSON file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def _object(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = decode(value.encode(errors="surrogateescape"))
        except MalformedJsonError:
            return None
    return value if isinstance(value, dict) else None
