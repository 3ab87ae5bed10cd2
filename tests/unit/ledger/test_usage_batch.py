"""Records are the request's events, byte for byte, in order, apart by organization, and never too large."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import Reason
from services.ledger.api import STATUS
from services.ledger.usage_batch import pack, read_events
from services.messages.usage_events import RECORD_BYTES_MAX, Rejected, Rejection
from services.runtime.refusals import Refusal
from tests.factories import utc

NOW = utc("2026-05-01T12:00:00")


def read(body, bytes_max=1_000_000):
    return read_events(body.encode() if isinstance(body, str) else body, NOW, bytes_max=bytes_max)


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
    body = ("[" + ", ".join(elements) + "]").encode("utf-8", "replace")
    fits = [len(element.encode("utf-8", "replace")) + 2 <= bytes_max or len(body) <= bytes_max for element in elements]
    if not any(fits):
        with pytest.raises(Refusal, match="No event"):
            read(body, bytes_max)
        return
    request = read(body, bytes_max)
    assert [error["index"] for error in request.errors] == [index for index, fine in enumerate(fits) if not fine]
    records = pack(request, bytes_max=bytes_max)
    assert all(len(record.value) <= bytes_max for record in records)
    assert sum(record.events for record in records) == sum(fits)
    for org_id in {org for org, _ in contents}:
        own = [record for record in records if record.org_id == org_id]
        values = b"".join(record.value for record in own)
        good = [
            element for element, fine, (org, _) in zip(elements, fits, contents, strict=True) if fine and org == org_id
        ]
        assert [event["id"] for record in own for event in json.loads(record.value)] == [
            json.loads(element.encode("utf-8", "replace"))["id"] for element in good
        ]
        assert all(element.encode("utf-8", "replace") in values for element in good)


def test_a_bad_event_is_named_and_its_neighbours_go_on():
    good, bad = _event(1, "a", None), _event(2, "a", None) | {"time": "yesterday"}
    request = read(json.dumps([bad, good, {"type": "usage.sleep.v1"}, 1]))
    assert [(error["index"], error["field"], error["code"]) for error in request.errors] == [
        (0, "time", "invalid_event"),
        (2, "type", "unsupported_type"),
        (3, "", "invalid_event"),
    ]
    (record,) = pack(request, bytes_max=10_000)
    assert (record.events, json.loads(record.value)) == (1, [good])


def test_what_is_refused_later_is_left_out_as_well():
    request = read(json.dumps([_event(number, "a", None) for number in range(3)]))
    rejection = Rejection.of(Reason.UNPRICED_MODEL, "nobody knows it")
    rest = request.without([Rejected(1, rejection)])
    assert [error["code"] for error in rest.errors] == ["unpriced_model"]
    assert [event["id"] for event in json.loads(pack(rest, bytes_max=10_000)[0].value)] == ["e0", "e2"]
    with pytest.raises(Refusal, match="unpriced_model: No event"):
        rest.without([Rejected(0, rejection), Rejected(2, rejection)])


def test_a_number_of_many_digits_keeps_them_all():
    body = json.dumps([_event(1, "a", 1), _event(2, "b", 2)]).replace('"note": 1', '"note": 0.' + "9" * 6_000)
    first, _second = pack(read(body), bytes_max=10_000)
    assert b"9" * 6_000 in first.value


def test_a_single_event_that_is_too_large_is_refused():
    with pytest.raises(Refusal, match="invalid_event") as refused:
        read(json.dumps(_event(1, "a", "x" * 500)), bytes_max=300)
    assert refused.value.errors[0]["detail"] == "must be at most 298 bytes"


def test_every_refused_event_is_named_where_others_are_taken():
    errors = read(json.dumps([_event(1, "a", ""), *[{"type": "usage.tool_call.v1"}] * 500])).errors
    assert [index for index, _ in itertools.groupby(errors, key=lambda error: error["index"])] == list(range(1, 501))
    assert len(errors) < 700


def test_only_the_first_hundred_faults_are_listed_where_none_is():
    with pytest.raises(Refusal) as refused:
        read(json.dumps([1] * 500))
    assert len(refused.value.errors) == 100


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b"[]", 422, "invalid_event"),
        (json.dumps([1] * 1_001).encode(), 413, "batch_too_large"),
        (b" " * (RECORD_BYTES_MAX + 1), 413, "batch_too_large"),
        (json.dumps(_event(1, "a", None) | {"time": "2026-05-01T12:05:01Z"}).encode(), 422, "time_in_future"),
    ],
)
def test_a_request_without_a_good_event_is_refused(body, status, code):
    with pytest.raises(Refusal) as refused:
        read(body)
    assert (STATUS[refused.value.code], refused.value.code) == (status, code)


def test_with_a_key_in_a_field_that_nobody_reads_only_what_is_read_goes():
    times = ["2026-05-01T12:00:00.123456Z", "2026-05-01T14:00:00+02:00"]
    events = [_event(number, "ö", None) | {"time": time} for number, time in enumerate(times)]
    events[0]["data"]["api_key"] = "sk-proj-0123456789abcdefghij"
    request = read(json.dumps([1, *events]))
    (record,) = pack(request, bytes_max=10_000)
    assert [each.event for each in read(record.value).accepted] == [each.event for each in request.accepted]
    for event in json.loads(record.value):
        assert set(event) == {"specversion", "id", "source", "type", "time", "data"}
        assert set(event["data"]) == {"org_id", "user_id", "tool", "calls", "succeeded"}
