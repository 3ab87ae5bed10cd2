"""JSON as the contract reads it: strict, never partial, and with the exact bytes of every element of a batch."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

# Longer numbers than any field takes are cut here: they stay out of range, and cost no time to convert.
_DIGITS_MAX = 40
# What matters for finding where an element ends: strings, which may hold anything, brackets and commas.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_WHITESPACE = b" \t\n\r"


class MalformedJsonError(ValueError):
    """The value is not JSON; the message says what is wrong, without what it held."""


def decode(value: bytes | None) -> Any:
    """What a record holds. Raises MalformedJsonError.

    orjson is quick and strict, but takes no lone surrogates and no endless numbers. Those are valid JSON, and it is
    for the field that holds one to be refused, so what orjson refuses is read again, slower.
    """
    if not value:
        raise MalformedJsonError("the record is empty")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return _decode_slowly(value)


def _refuse_constant(_name: str) -> NoReturn:
    raise MalformedJsonError("NaN and Infinity are not JSON")


def _parse_int(digits: str) -> int:
    return int(digits[:_DIGITS_MAX])


def _decode_slowly(value: bytes) -> Any:
    try:
        return json.loads(value.decode(), parse_constant=_refuse_constant, parse_int=_parse_int)
    except UnicodeDecodeError:
        raise MalformedJsonError("the record is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise MalformedJsonError("the JSON is nested too deeply") from None


def element_sources(value: bytes) -> list[bytes]:
    """The bytes of each element of a batch that ``decode`` has read; of anything else, all of its bytes.

    Looks at the structure alone, so that nothing is nested too deeply for it.
    """
    start = len(value) - len(value.lstrip(_WHITESPACE))
    if value[start : start + 1] != b"[":
        return [value]
    sources, depth, begin = [], 0, start + 1
    for match in _STRUCTURE.finditer(value, start):
        token = match[0]
        if depth == 1 and token in {b",", b"]"}:
            sources.append(value[begin : match.start()].strip(_WHITESPACE))
            begin = match.end()
        depth += (token in {b"[", b"{"}) - (token in {b"]", b"}"})
    return sources if sources != [b""] else []
