"""Rows from a file that is one JSON document: an array of objects, or one that lies somewhere inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from services.cli.usage.sources import Row, Rows, Unreadable
from services.messages.json_bytes import MalformedJsonError, decode
from services.messages.usage_events import no_object
from services.runtime.command_failed import CommandFailed

DOCUMENT_BYTES_MAX = 256 * 1024 * 1024
"""It is held in memory; JSON lines may be of any size."""
_BOM = b"\xef\xbb\xbf"


def document_rows(file: BinaryIO, path: str | None) -> Rows:
    """The objects of the array at ``path``, numbered from 1; the whole document is the array where there is no path.

    A path leads through keys with dots, and through every element of the arrays on its way (``daily.modelBreakdowns``).
    What stands beside an array is part of each of its rows, unless they say something else by that name.

    Raises CommandFailed where the document is none, or has no array there.
    """
    content = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        raise CommandFailed(
            f"the document is larger than {DOCUMENT_BYTES_MAX // 2**20} MiB; as JSON lines it may be of any size "
            "(jq -c '.[]')"
        )
    try:
        document = decode(content.removeprefix(_BOM))
    except MalformedJsonError as error:
        raise CommandFailed(f"the document is {error}") from None
    keys = path.split(".") if path else []
    return _numbered(list(_found(document, keys, {}, path or "")))


def _numbered(values: list[Any]) -> Rows:
    for number, value in enumerate(values, 1):
        yield Row(number, value) if isinstance(value, dict) else Unreadable(number, no_object(value).rejection)


def _found(value: Any, keys: list[str], beside: dict[str, Any], path: str) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            if keys:
                yield from _found(element, keys, beside, path)
            else:
                yield {**beside, **element} if isinstance(element, dict) else element
    elif not keys:
        hint = "is no array" if path else "is no array of objects; --rows PATH says where it has one"
        raise CommandFailed(f"--rows {path}: {hint}" if path else f"the document {hint}")
    elif not isinstance(value, dict) or keys[0] not in value:
        has = ", ".join(value) if isinstance(value, dict) else "no keys"
        raise CommandFailed(f"--rows {path}: there is no {keys[0]}; there is {has}")
    else:
        others = {name: each for name, each in value.items() if name != keys[0]}
        yield from _found(value[keys[0]], keys[1:], beside | others, path)
