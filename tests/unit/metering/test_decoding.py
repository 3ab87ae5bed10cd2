"""JSON as the contract reads it, and the exact bytes of every element."""

from __future__ import annotations

import json

import pytest

from services.metering.decoding import MalformedJsonError, decode, element_sources


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "the record is empty"),
        (b"", "the record is empty"),
        (b" \n", "not JSON"),
        (b"{", "not JSON"),
        (b"{}{}", "Extra data"),
        (b"[] x", "Extra data"),
        (b"{'id': 1}", "not JSON"),
        (b'{"id": 1,}', "not JSON"),
        (b"[1, 2,]", "not JSON"),
        (b"[1 2]", "not JSON"),
        (b"[", "not JSON"),
        (b"nil", "not JSON"),
        (b"01", "not JSON"),
        (b"NaN", "NaN and Infinity are not JSON"),
        (b"[-Infinity]", "NaN and Infinity are not JSON"),
        (b'{"a": Infinity}', "NaN and Infinity are not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "line\nbreak"}', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"\x00", "not JSON"),
        (b'{"a": "\\x"}', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
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


def test_endless_numbers_stay_out_of_range_and_cost_no_time():
    # The lone surrogate is what orjson refuses.
    assert decode(b'{"calls": ' + b"9" * 1_000_000 + b', "x": "\\ud800"}')["calls"] > 10**30
    assert decode(b'{"calls": -' + b"9" * 1_000_000 + b', "x": "\\ud800"}')["calls"] < -(10**30)


def test_lone_surrogates_are_valid_json():
    assert decode(b'{"x": "\\ud800"}') == {"x": "\ud800"}
