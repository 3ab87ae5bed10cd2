"""Records are the request's events, byte for byte, in order, apart by organization, and never too large."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.refusals import Refusal
from services.ledger.usage_batch import pack, read_events, without_unknown_fields


def _event(number: int, org_id: str, note: object) -> dict:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "s",
        "type": "usage.tool_call.v1",
        "time": "2026-05-01T12:00:00Z",
        "data": {"org_id": org_id, "user_id": "u", "tool": "t"},
        "note": note,
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "ö"]), JSON_VALUES), min_size=1, max_size=12),
    st.integers(min_value=600, max_value=3_000),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_packing_keeps_every_event_its_order_and_its_bytes(contents, bytes_max, indent, ascii_only):
    events = [_event(number, org_id, note) for number, (org_id, note) in enumerate(contents)]
    elements = [json.dumps(event, indent=indent, ensure_ascii=ascii_only) for event in events]
    try:
        body = ("[" + ", ".join(elements) + "]").encode()
        messages = read_events(body)
    except (Refusal, UnicodeEncodeError):
        # A lone surrogate in a note: refused as a whole, as the next test says.
        assert any(0xD800 <= ord(letter) <= 0xDFFF for letter in json.dumps(events, ensure_ascii=False))
        return
    if any(len(element.encode()) + 2 > bytes_max for element in elements):
        if len({org for org, _ in contents}) == 1 and len(body) <= bytes_max:
            return
        with pytest.raises(Refusal, match="too large"):
            pack(body, messages, bytes_max=bytes_max)
        return
    records = pack(body, messages, bytes_max=bytes_max)
    assert all(len(record.value) <= bytes_max for record in records)
    assert sum(record.events for record in records) == len(events)
    for org_id in {org for org, _ in contents}:
        own = [record for record in records if record.org_id == org_id]
        got = [event for record in own for event in json.loads(record.value)]
        assert got == [event for event in events if event["data"]["org_id"] == org_id]
        values = b"".join(record.value for record in own)
        assert all(e.encode() in values for e, (org, _) in zip(elements, contents, strict=True) if org == org_id)


def test_a_lone_surrogate_is_malformed():
    with pytest.raises(Refusal, match="malformed_json"):
        read_events(json.dumps(_event(1, "a", "\ud800")).encode())


def test_a_number_of_many_digits_keeps_them_all():
    body = json.dumps([_event(1, "a", 1), _event(2, "b", 2)]).replace('"note": 1', '"note": 0.' + "9" * 6_000).encode()
    first, _second = pack(body, read_events(body), bytes_max=10_000)
    assert b"9" * 6_000 in first.value


def test_a_single_event_that_is_too_large_is_refused():
    body = json.dumps(_event(1, "a", "x" * 500)).encode()
    with pytest.raises(Refusal, match="too large"):
        pack(body, read_events(body), bytes_max=300)


def test_only_the_first_hundred_faults_are_listed():
    with pytest.raises(Refusal) as refused:
        read_events(json.dumps([1] * 500).encode())
    assert len(refused.value.more["errors"]) == 100


def test_what_is_left_without_unknown_fields_is_the_same_events():
    times = ["2026-05-01T12:00:00.123456Z", "2026-05-01T14:00:00+02:00"]
    events = [_event(number, "ö", {"key": "x"}) | {"time": time} for number, time in enumerate(times)]
    events[0]["data"]["api_key"] = "x"
    body = without_unknown_fields(read_events(json.dumps(events).encode()))
    assert read_events(body) == read_events(json.dumps(events).encode())
    for event in json.loads(body):
        assert set(event) == {"specversion", "id", "source", "type", "time", "data"}
        assert set(event["data"]) == {"org_id", "user_id", "tool"}
