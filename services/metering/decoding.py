"""JSON as the contract reads it: strict, never partial, and with the exact bytes of every element of a batch."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

# Longer numbers than any field takes are cut here: they stay out of range, and cost no time to convert.
_DIGITS_MAX = 40


class MalformedJsonError(ValueError):
    """The value is not JSON; the message says what is wrong, without what it held."""


class Element(NamedTuple):
    """One element of a batch, or the one value of a record, with the bytes it was read from."""

    value: Any
    source: bytes


def _refuse_constant(_name: str) -> NoReturn:
    raise MalformedJsonError("NaN and Infinity are not JSON")


def _parse_int(digits: str) -> int:
    return int(digits[:_DIGITS_MAX])


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_parse_int)
_WHITESPACE = " \t\n\r"


def decode_elements(value: bytes | None) -> tuple[list[Element], bool]:
    """The elements of a record's value, and whether it is a batch. Raises MalformedJsonError."""
    if not value:
        raise MalformedJsonError("the record is empty")
    try:
        text = value.decode()
        start = _skip(text, 0)
        whole, end = _DECODER.raw_decode(text, start)
        if _skip(text, end) != len(text):
            raise MalformedJsonError("more follows after the end of the JSON value")
        return (_elements(text, start), True) if isinstance(whole, list) else ([Element(whole, value)], False)
    except UnicodeDecodeError:
        raise MalformedJsonError("the record is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise MalformedJsonError("the JSON is nested too deeply") from None


def _skip(text: str, index: int) -> int:
    while index < len(text) and text[index] in _WHITESPACE:
        index += 1
    return index


def _elements(text: str, start: int) -> list[Element]:
    """The elements of the array at ``start``, which is known to be well-formed."""
    elements = []
    index = _skip(text, start + 1)
    while text[index] != "]":
        value, end = _DECODER.raw_decode(text, index)
        elements.append(Element(value, text[index:end].encode()))
        index = _skip(text, end)
        if text[index] == ",":
            index = _skip(text, index + 1)
    return elements
