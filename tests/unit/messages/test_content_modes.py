"""Whichever of CloudEvents' modes an event comes in, it is the same event, or refused for the same reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import Reason
from services.domain.usage import payload_hash
from services.messages.cloudevents import is_binary, of_record, of_request, saying_type
from services.messages.usage_events import Accepted, Rejected, read_record

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
ENVELOPE = {"specversion": "1.0", "id": "e-1", "source": "runner", "type": "usage.tool_call.v1"} | {
    "time": "2026-11-02T10:00:00Z"
}
DATA = {"org_id": "acme", "user_id": "uma", "tool": "search", "calls": 3}
# What no attribute may hold is refused in either mode, but not by a header: those hold no control characters.
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=40)


def kafka(envelope, **more):
    return [(f"ce_{name}", text.encode()) for name, text in envelope.items()] + list(more.items())


def http(envelope):
    return {f"ce-{name}": quote(text, safe="") for name, text in envelope.items()}


def read(value):
    (outcome,) = read_record(value, NOW)
    return outcome


@given(id_=texts, source=texts, type_=st.sampled_from(["usage.tool_call.v1", "usage.of_nothing"]), user=texts)
def test_binary_mode_is_structured_mode(id_, source, type_, user):
    envelope = ENVELOPE | {"id": id_, "source": source, "type": type_}
    data = DATA | {"user_id": user}
    whole = read(json.dumps(envelope | {"data": data}).encode())
    body = json.dumps(data, ensure_ascii=False, indent=1).encode()
    for value in (of_record(body, kafka(envelope)), of_request(body, http(envelope))):
        assert read(value) == whole
    if isinstance(whole, Accepted):
        assert payload_hash(read(of_record(body, kafka(envelope))).event) == payload_hash(whole.event)


def test_a_trace_is_an_attribute_like_any_other():
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert read(of_record(json.dumps(DATA).encode(), kafka(ENVELOPE | {"traceparent": trace}))).traceparent == trace


@pytest.mark.parametrize(
    "data",
    [
        b'{"org_id": "acme"}, "id": "other"',
        b'{}}{"a": {',
        b"not JSON",
        b'{"a": 1} {"b": 2}',
        b"[1",
        b"\xff",
        b"{" * 2_000,
    ],
)
def test_what_is_not_one_value_says_nothing_of_the_attributes(data):
    outcome = read(of_record(data, kafka(ENVELOPE)))
    assert isinstance(outcome, Rejected)
    assert outcome.rejection.reason in {Reason.MALFORMED_JSON, Reason.INVALID_EVENT}


@pytest.mark.parametrize(("value", "field"), [(None, "data"), (b"", "data"), (b"[]", "data"), (b"7", "data")])
def test_data_that_is_no_object_is_named(value, field):
    outcome = read(of_record(value, kafka(ENVELOPE)))
    assert outcome.rejection.reason is Reason.INVALID_EVENT
    assert {fault.field for fault in outcome.rejection.faults} == {field}


def test_an_attribute_that_is_missing_or_no_text_is_named():
    data = json.dumps(DATA).encode()
    missing = {name: text for name, text in ENVELOPE.items() if name != "specversion"}
    assert {fault.field for fault in read(of_record(data, kafka(missing))).rejection.faults} == {"specversion"}
    odd = [(name, b"\xff" if name == "ce_id" else text) for name, text in kafka(ENVELOPE)]
    assert {fault.field for fault in read(of_record(data, odd)).rejection.faults} == {"id"}
    assert {fault.field for fault in read(of_request(data, http(ENVELOPE) | {"ce-id": "%ff"})).rejection.faults} == {
        "id"
    }


def test_attributes_do_not_stand_for_data():
    value = of_record(json.dumps(DATA).encode(), kafka(ENVELOPE | {"data": "{}", "data_base64": "e30="}))
    assert json.loads(value) == ENVELOPE | {"data": DATA}
    assert value.count(b'"data"') == 1


@pytest.mark.parametrize(
    "headers",
    [None, [], [("traceparent", b"x")], [*kafka(ENVELOPE), ("content-type", b"application/cloudevents+json")]],
)
def test_in_the_other_modes_the_value_is_all_of_it(headers):
    assert of_record(b"[{}]", headers) == b"[{}]"


def test_a_request_is_binary_by_its_headers():
    assert is_binary(http(ENVELOPE) | {"content-type": "application/json"})
    assert not is_binary({"content-type": "application/json"})
    assert not is_binary(http(ENVELOPE) | {"content-type": "application/CloudEvents-batch+json; charset=utf-8"})
    assert of_request(b"[]", {"content-type": "application/json"}) == b"[]"


def test_a_record_says_what_it_is():
    assert saying_type(b' [{"id": 1}]') == ("content-type", b"application/cloudevents-batch+json")
    assert saying_type(b'{"id": 1}') == ("content-type", b"application/cloudevents+json")
