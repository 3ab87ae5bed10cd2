"""Dead letters as rows: found again by what is known of them, and without any key."""

from __future__ import annotations

import json

import pytest

from schemas.dead_letters import Reason
from services.messages.usage_events import RECORD_BYTES_MAX, Rejection
from services.metering.booking.dead_letters import PAYLOAD_BYTES_MAX, dead_letter
from services.metering.booking.pricing import Record, read_elements
from tests.factories import utc, wire

NOW = utc("2026-12-01T00:00:00")
KEY = "sk-proj-0123456789abcdefghij"


def letters(value, key=b"org-1"):
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    elements = read_elements(Record(2, 99, key, raw, 0.0), NOW).elements
    return [dead_letter(element, element.rejection) for element in elements if element.rejection is not None]


def letter(value, key=b"org-1"):
    (only,) = letters(value, key)
    return only


def test_a_refused_event_is_kept_with_its_bytes_its_place_and_what_is_known_of_it():
    value = json.dumps(wire(calls=0)).encode()
    found = letter(value)
    assert (found.partition, found.source_offset, found.source_index) == (2, 99, 0)
    assert found.reason == "invalid_event"
    assert found.detail.startswith("data.calls: ")
    assert (found.org_id, found.event_source, found.event_id) == ("org-1", "runner", "event-1")
    assert found.event_type == "usage.node_call.v1"
    assert found.record_key == b"org-1"
    assert found.payload == value
    assert not found.masked


def test_of_a_batch_only_the_refused_elements_are_kept_each_with_its_place_and_own_bytes():
    found = letters([wire(), wire(calls=0), wire(), None])
    assert [each.source_index for each in found] == [1, 3]
    assert json.loads(found[0].payload) == wire(calls=0)
    assert found[1].payload == b"null"


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 50_000])
def test_what_cannot_be_read_is_kept_as_it_is_with_nothing_known(value):
    found = letter(value, None)
    assert found.payload == (value or b"")
    assert found.record_key is None
    assert (found.org_id, found.event_source, found.event_id, found.event_type) == (None, None, None, None)


@pytest.mark.parametrize("data", [None, [], "text", {"org_id": 5}, {"org_id": ["org-1"]}, {}])
def test_an_organization_that_cannot_be_read_is_not_known(data):
    found = letter(wire() | {"data": data})
    assert found.org_id is None
    assert found.event_id == "event-1"


def test_labels_are_text_that_the_database_can_hold():
    found = letter(wire() | {"id": "a\x00b\ud800c", "source": "x" * 1_000, "type": 7})
    assert found.event_id == "a�b�c"
    assert found.event_source == "x" * 256
    assert found.event_type is None


@pytest.mark.parametrize("field", ["id", "source", "type", "api_key"])
def test_keys_are_masked_in_the_payload_and_the_labels_and_the_letter_is_marked(field):
    found = letter(wire(calls=0) | {field: f"Bearer {KEY}"})
    assert found.masked
    assert b"0123456789" not in found.payload
    assert b"Bearer [masked key]" in found.payload
    assert not any("0123456789" in str(value) for value in found)


def test_a_key_in_the_record_key_is_masked_and_the_letter_marked():
    found = letter(b"{", KEY.encode())
    assert found.record_key == b"[masked key]"
    assert found.masked


def test_a_key_in_what_is_not_json_is_masked():
    found = letter(b"\xff OPENAI_API_KEY=" + KEY.encode())
    assert found.payload == b"\xff OPENAI_API_KEY=[masked key]"
    assert found.masked


def test_the_reason_is_the_one_that_is_given():
    element = read_elements(Record(0, 0, None, json.dumps(wire()).encode(), 0.0), NOW).elements[0]
    found = dead_letter(element, Rejection(Reason.IDENTITY_CONFLICT, "another payload"))
    assert (found.reason, found.detail, found.event_id) == ("identity_conflict", "another payload", "event-1")


def test_of_what_is_too_long_the_beginning_is_kept_and_how_long_it_was():
    found = letter(b"x" * (PAYLOAD_BYTES_MAX + 1))
    assert found.whole_bytes == PAYLOAD_BYTES_MAX + 1
    assert PAYLOAD_BYTES_MAX - 1_024 < len(found.payload) < PAYLOAD_BYTES_MAX
    whole = letter(b"x" * PAYLOAD_BYTES_MAX)
    assert (len(whole.payload), whole.whole_bytes) == (PAYLOAD_BYTES_MAX, None)


@pytest.mark.parametrize("place", [1, 8, 17, 40, 99])
@pytest.mark.parametrize("disguise", [str, lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text)])
def test_no_part_of_a_key_is_left_where_a_payload_is_cut(place, disguise):
    text = disguise(KEY)
    found = letter(b"x " * ((PAYLOAD_BYTES_MAX - place) // 2) + text.encode() + b" x" * 100_000)
    assert found.whole_bytes is not None
    assert text[: len(disguise("sk-"))].encode() not in found.payload


def test_a_record_that_is_too_large_is_not_read_at_all():
    found = letter(json.dumps(wire() | {"note": "x" * RECORD_BYTES_MAX}).encode())
    assert (found.reason, found.org_id, found.event_id) == ("batch_too_large", None, None)


def valid_letter(event, key=b"org-1"):
    element = read_elements(Record(0, 0, key, json.dumps(event).encode(), 0.0), NOW).elements[0]
    assert element.event is not None
    return element.event, dead_letter(element, Rejection(Reason.UNPRICED_MODEL, "no card knows it"))


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (wire(user_id="sk-bratislava-office-7"), b"org-1"),
        (wire() | {"id": KEY}, b"org-1"),
        (wire(api_key=KEY), b"org-1"),
        (wire(), KEY.encode()),
        (wire() | {"note": "x" * PAYLOAD_BYTES_MAX}, b"org-1"),
    ],
)
def test_a_valid_event_that_is_not_kept_as_it_was_sent_is_kept_for_the_replay(event, key):
    sent, found = valid_letter(event, key)
    assert found.masked or found.whole_bytes is not None
    (again,) = read_elements(Record(0, 0, None, found.event, 0.0), NOW).elements
    assert again.event == sent
    assert b"api_key" not in found.event


def test_what_is_kept_as_it_was_sent_is_kept_once():
    assert valid_letter(wire())[1].event is None


@pytest.mark.parametrize("field", ["provider", "model"])
def test_a_key_in_the_place_of_a_model_is_not_kept(field):
    found = valid_letter(wire(**{field: KEY}))[1]
    assert (found.masked, found.event) == (True, None)


def test_no_part_of_a_key_is_left_where_a_label_is_cut():
    found = letter(wire(calls=0) | {"source": "x" * 240 + " " + KEY})
    assert "sk-" not in (found.event_source or "")
