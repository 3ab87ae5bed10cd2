"""JSON as the contract reads it: strict, never partial, and with the exact bytes of every element of a batch.

Nothing here is recursive, and nothing takes more than linear time, whatever a producer sends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

LEVELS_MAX = 1_024
"""How deep JSON may be nested, a batch's own brackets included; it is what orjson reads."""

# A string, also one that never ends, so that no byte is looked at twice.
_STRING = rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)'
_STRUCTURE = re.compile(_STRING + rb"|[\[\]{},]", re.DOTALL)
# Numbers that may be beyond any double: with an exponent, or with hundreds of digits.
_NUMBERS = re.compile(_STRING + rb"|(?<![0-9.eE+-])(-?[0-9.]++(?:[eE]\+?[0-9]++|(?<=[0-9.]{300})))", re.DOTALL)
_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SURROGATES = re.compile(_PAIR + rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL)
_NO_TEXT, _NO_INTEGER = rb"\u0000", b"1e308"
_OPENING, _CLOSING, _PARTING = {b"[", b"{"}, {b"]", b"}"}, {b",", b"]"}
_WHITESPACE = b" \t\n\r"


class MalformedJsonError(ValueError):
    """The value is not JSON; the message says what is wrong, without what it held."""


class TooDeep(NamedTuple):
    """What stands for an element that is nested deeper than ``LEVELS_MAX``: nobody has read it."""


def decode(value: bytes | None) -> Any:
    """What a record holds; of a batch, ``TooDeep`` where one element is nested too deeply. Raises MalformedJsonError.

    orjson is quick and strict, but takes no lone surrogates and no endless numbers. Those are valid JSON, and it is
    for the field that holds one to be refused, so they are read as what no field takes: NUL, and a number that is no
    integer.
    """
    if not value:
        raise MalformedJsonError("the record is empty")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return _decode_tamed(_tamed(value))


def _tamed(value: bytes) -> bytearray:
    """The same JSON, of the same length, without what orjson does not take."""
    try:
        value.decode()
    except UnicodeDecodeError:
        raise MalformedJsonError("the record is not UTF-8") from None
    tamed = bytearray(value)
    for escape in _SURROGATES.finditer(value):
        if escape[1] is not None:
            tamed[escape.start() : escape.end()] = _NO_TEXT
    for number in _NUMBERS.finditer(value):
        if number[1] is not None and _is_endless(number[1]):
            tamed[number.start() : number.end()] = _NO_INTEGER.ljust(len(number[1]))
    return tamed


def _is_endless(number: bytes) -> bool:
    try:
        return math.isinf(float(number))
    except ValueError:
        return False


def _decode_tamed(value: bytearray) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        problem = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    if value.count(b"[") + value.count(b"{") <= LEVELS_MAX:
        raise MalformedJsonError(problem)
    return _decode_deep(bytes(value), problem)


def _decode_deep(value: bytes, problem: str) -> Any:
    """What is held beside the elements that nobody can read, for those that are too deep harm no neighbour."""
    deep = {place: span for place, span in enumerate(_spans(value)) if span.levels > LEVELS_MAX}
    if not deep:
        raise MalformedJsonError(problem)
    if not is_batch(value):
        return TooDeep()
    parts, end = [], 0
    for span in deep.values():
        parts += [value[end : span.start], b"null"]
        end = span.end
    try:
        held = orjson.loads(b"".join([*parts, value[end:]]))
    except orjson.JSONDecodeError as error:
        raise MalformedJsonError(f"not JSON: {error.msg}") from None
    return [TooDeep() if place in deep else element for place, element in enumerate(held)]


def element_sources(value: bytes) -> list[bytes]:
    """The bytes of each element of a batch that ``decode`` has read; of anything else, all of its bytes."""
    if not is_batch(value):
        return [value]
    try:
        return [bytes(source) for source in _read_sources(value)]
    except (msgspec.DecodeError, RecursionError):
        # Too deep for it, or not quite JSON.
        return _sources_by_structure(value)


_read_sources = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _sources_by_structure(value: bytes) -> list[bytes]:
    sources = [value[span.start : span.end].strip(_WHITESPACE) for span in _spans(value)]
    return sources if sources != [b""] else []


class _Span(NamedTuple):
    """Where an element lies, and how many levels there are from the outside of the value to its inside."""

    start: int
    end: int
    levels: int


def _spans(value: bytes) -> Iterator[_Span]:
    """The elements of a batch; of anything else that ends, the whole. Looks at the structure alone."""
    inside = 1 if is_batch(value) else 0
    depth = levels = start = 0
    for token in _STRUCTURE.finditer(value):
        kind = token[0]
        if kind in _OPENING:
            depth += 1
            start, levels = (token.end(), depth) if depth == inside else (start, max(levels, depth))
        elif depth == inside == 1 and kind in _PARTING:
            yield _Span(start, token.start(), levels)
            start, levels = token.end(), depth
        depth -= kind in _CLOSING
    if inside == depth == 0:
        yield _Span(0, len(value), levels)


def is_batch(value: bytes) -> bool:
    """Whether it is an array, if it is JSON."""
    return value.lstrip(_WHITESPACE).startswith(b"[")
