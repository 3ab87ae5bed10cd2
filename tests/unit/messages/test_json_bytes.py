"""JSON as the contract reads it, and the exact bytes of every element."""

from __future__ import annotations

import json

import pytest

from services.messages.json_bytes import LEVELS_MAX, MalformedJsonError, TooDeep, decode, element_sources


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "the record is empty"),
        (b"", "the record is empty"),
        (b" \n", "not JSON"),
        (b"{", "not JSON"),
        (b"{}{}", "unexpected content after document"),
        (b"[] x", "unexpected content after document"),
        (b"{'id': 1}", "not JSON"),
        (b'{"id": 1,}', "not JSON"),
        (b"[1, 2,]", "not JSON"),
        (b"[1 2]", "not JSON"),
        (b"[", "not JSON"),
        (b"nil", "not JSON"),
        (b"01", "not JSON"),
        (b"NaN", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "line\nbreak"}', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"\x00", "not JSON"),
        (b'{"a": "\\x"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b"[" * 100_000 + b"]" * 99_999, "not JSON"),
        (b"[{}, nil, " + b"[" * 2_000 + b"]" * 2_000 + b"]", "not JSON"),
        (b'"' + b'\\"' * 1_000_000 + b"\\", "not JSON"),
    ],
)
def test_what_is_not_json_is_refused(value, problem):
    with pytest.raises(MalformedJsonError, match=problem):
        decode(value)


def test_a_refusal_says_where_and_not_what():
    with pytest.raises(MalformedJsonError) as refused:
        decode(b'{\n "api_key": sk-abcdefghijklmnop}')
    assert "line 2, column 13" in str(refused.value)
    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize("value", [b"{}", b' {"a": [1, 2]} \r\n', b"null", b"true", b'"[1, 2]"', b"1.5"])
def test_one_value_is_one_element_with_all_its_bytes(value):
    assert element_sources(value) == [value]
    assert decode(value) == json.loads(value)


@pytest.mark.parametrize("value", [b"[]", b" [ ] ", b"[\n]"])
def test_an_empty_batch_has_no_elements(value):
    assert decode(value) == []
    assert element_sources(value) == []


def test_elements_of_a_batch_keep_their_own_bytes():
    parts = [
        b'{"a":  1}',
        b"null",
        b'"], [ \\" \xc3\xa9 \\u00e9"',
        b"[1, [2]]",
        b"-1.50e3",
        b'{ "a" : "1" , "a" : "2" }',
        '"🔑"'.encode(),
        b'""',
        b"[]",
    ]
    value = b" [ " + b" ,\t".join(parts) + b"\r\n] "
    assert element_sources(value) == parts
    assert decode(value) == [json.loads(part) for part in parts]


def test_a_batch_is_taken_apart_however_deep_its_elements_are():
    deep = b"[" * 1_000 + b"]" * 1_000
    value = b"[" + deep + b"," + deep + b"]"
    assert len(decode(value)) == 2
    assert element_sources(value) == [deep, deep]


def test_an_element_that_is_nested_too_deeply_harms_no_neighbour():
    deep = b'{"id": "[[[\\"", "x": ' + b"[" * 5_000 + b'"]"' + b"]" * 5_000 + b"}"
    value = b' [{"a": "\\ud800"}, ' + deep + b", [1] ," + deep + b",null]\n"
    assert decode(value) == [{"a": "\0"}, TooDeep(), [1], TooDeep(), None]
    assert element_sources(value) == [b'{"a": "\\ud800"}', deep, b"[1]", deep, b"null"]
    assert decode(deep) == TooDeep()
    assert element_sources(deep) == [deep]


@pytest.mark.parametrize(("levels", "read"), [(LEVELS_MAX - 1, True), (LEVELS_MAX, False)])
def test_how_deep_is_too_deep_is_the_same_whatever_else_stands_in_the_batch(levels, read):
    deep = b"[" * levels + b"]" * levels
    for neighbour in (b"{}", b'"\\udfff"', b"1e999"):
        assert (decode(b"[" + neighbour + b", " + deep + b"]")[1] != TooDeep()) is read


@pytest.mark.parametrize(
    "number", [b"9" * 1_000_000, b"-" + b"9" * 1_000_000, b"1e999", b"-1E+999", b"9" * 400 + b".5"]
)
def test_an_endless_number_is_no_integer_and_costs_no_time(number):
    held = decode(b'{"calls": ' + number + b', "x": 1, "text": "1e999 -1e999"}')
    assert (held["calls"], held["x"], held["text"]) == (1e308, 1, "1e999 -1e999")


def test_a_lone_surrogate_is_valid_json_and_no_text_of_any_field():
    assert decode(rb'{"x": "a\ud800b"}') == {"x": "a\0b"}
    assert decode(rb'["\udc00\ud800", "\ud83d\ude00\udfff", "\\\ud800", "\\ud800"]') == [
        "\0\0",
        "\U0001f600\0",
        "\\\0",
        r"\ud800",
    ]


def test_a_place_is_told_as_in_what_was_sent():
    with pytest.raises(MalformedJsonError, match="line 1, column 33"):
        decode(rb'{"a": "\ud800", "b": 1e999, "c" nil}')
