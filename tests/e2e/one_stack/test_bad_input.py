"""Bad input through real Kafka: every refused event ends as the contract says, and harms no neighbour."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from kafka import KafkaProducer

from tests.e2e.running import Stack, node_call, token_usage
from tests.patience import PATIENCE_SECONDS, wait_for

USAGE = "/v1/usage-events"
JSON = {"Content-Type": "application/json"}
WITHOUT_PRICE = ("no_rate_card", "unpriced_model")
USAGE_TOPIC = "byok.usage-events"
SQUEEZED = {"compression_type": "gzip", "max_request_size": 100_000_000, "delivery_timeout_ms": 120_000}
IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

WHOLE_RECORDS = {
    "not JSON": (b'{"specversion": "1.0", ', "malformed_json"),
    "plain text": (b"hello", "malformed_json"),
    "nothing": (b"", "malformed_json"),
    "a tombstone": (None, "malformed_json"),
    "not UTF-8": (b'{"id": "\xff"}', "malformed_json"),
    "UTF-16": ('{"id": "a"}'.encode("utf-16"), "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "malformed_json"),
    "NaN": (b'{"id": NaN}', "malformed_json"),
    "two values": (b"{} {}", "malformed_json"),
    "an array that does not end": (b"[{},", "malformed_json"),
    "brackets without end": (b"[" * 100_000, "malformed_json"),
    "nested too deeply": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "invalid_event"),
    "an empty batch": (b"[]", "invalid_event"),
    "a number": (b"42", "invalid_event"),
    "null": (b"null", "invalid_event"),
    "a batch of 1,001": (json.dumps([1] * 1_001).encode(), "batch_too_large"),
}

BAD_EVENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no specversion": ({"specversion": None}, "invalid_event", "specversion"),
    "another specversion": ({"specversion": "0.3"}, "invalid_event", "specversion"),
    "an empty id": ({"id": ""}, "invalid_event", "id"),
    "an id that is a number": ({"id": 7}, "invalid_event", "id"),
    "an id over its length": ({"id": "x" * 257}, "invalid_event", "id"),
    "an id over its length in bytes": ({"id": "é" * 129}, "invalid_event", "id"),
    "an empty source": ({"source": ""}, "invalid_event", "source"),
    "a NUL in the id": ({"id": "a\x00b"}, "invalid_event", "id"),
    "a lone surrogate in the id": ({"id": "a\ud800"}, "invalid_event", "id"),
    "a line feed in the source": ({"source": "a\nb"}, "invalid_event", "source"),
    "no type": ({"type": None}, "invalid_event", "type"),
    "an unknown type": ({"type": "usage.coffee.v1"}, "unsupported_type", "type"),
    "another version of a type": ({"type": "usage.node_call.v2"}, "unsupported_type", "type"),
    "no time": ({"time": None}, "invalid_event", "time"),
    "a time without offset": ({"time": "2026-11-02T10:00:00"}, "invalid_event", "time"),
    "a date only": ({"time": "2026-11-02"}, "invalid_event", "time"),
    "a time as a number": ({"time": 1_793_000_000}, "invalid_event", "time"),
    "the year 0001": ({"time": "0001-01-01T00:00:00Z"}, "invalid_event", "time"),
    "the year 9999": ({"time": "9999-12-31T23:59:59Z"}, "invalid_event", "time"),
    "the year 9999 west of Greenwich": ({"time": "9999-12-31T23:59:59-12:00"}, "invalid_event", "time"),
    "a day that does not exist": ({"time": "2026-02-30T00:00:00Z"}, "invalid_event", "time"),
    "a time in the future": ({"time": IN_AN_HOUR}, "time_in_future", "time"),
    "a time before the first card": ({"time": "2026-04-26T23:59:59.999999Z"}, "no_rate_card", "rate card"),
    "no data": ({"data": None}, "invalid_event", "data"),
}
BAD_DATA: dict[str, tuple[dict[str, Any], str, str]] = {
    "every organization": ({"org_id": "*"}, "invalid_event", "data.org_id"),
    "no org_id": ({"org_id": None}, "invalid_event", "data.org_id"),
    "an empty user_id": ({"user_id": ""}, "invalid_event", "data.user_id"),
    "a user_id over its length": ({"user_id": "x" * 129}, "invalid_event", "data.user_id"),
    "a NUL in the team_id": ({"team_id": "\x00"}, "invalid_event", "data.team_id"),
    "a lone surrogate in the agent_id": ({"agent_id": "\udfff"}, "invalid_event", "data.agent_id"),
    "a negative count": ({"input_tokens": -1}, "invalid_event", "data.input_tokens"),
    "a fractional count": ({"output_tokens": 1.5}, "invalid_event", "data.output_tokens"),
    "a count as text": ({"input_tokens": "1000"}, "invalid_event", "data.input_tokens"),
    "a count that is true": ({"input_tokens": True}, "invalid_event", "data.input_tokens"),
    "a count over its limit": ({"input_tokens": 10**10 + 1}, "invalid_event", "data.input_tokens"),
    "a count past 64 bits": ({"input_tokens": 2**64}, "invalid_event", "data.input_tokens"),
    "a count of 400 digits": ({"input_tokens": 10**400}, "invalid_event", "data.input_tokens"),
    "more cached than input": ({"cached_input_tokens": 1_001}, "invalid_event", "cached_input_tokens"),
    "a claim without its credential": ({"credential": {"source": "byok"}}, "invalid_event", "credential_id"),
    "a claim of nobody": ({"credential": {"source": "me"}}, "invalid_event", "data.credential"),
    "an unknown model": ({"model": "claude-unknown"}, "unpriced_model", "claude-unknown"),
    "a provider of nothing": ({"provider": "nobody"}, "unpriced_model", "nobody"),
    "a model of the next card": ({"model": "claude-opus-5"}, "unpriced_model", "2026-04-27"),
}


def _bad(org_id: str, name: str) -> tuple[dict[str, Any], str, str]:
    if name in BAD_EVENTS:
        changes, reason, named = BAD_EVENTS[name]
        event = token_usage(org_id) | changes
        return {key: value for key, value in event.items() if value is not None}, reason, named
    changes, reason, named = BAD_DATA[name]
    event = token_usage(org_id, time="2026-10-01T00:00:00Z")
    event["data"] = {key: value for key, value in (event["data"] | changes).items() if value is not None}
    return event, reason, named


@pytest.mark.parametrize("name", WHOLE_RECORDS)
def test_a_record_that_cannot_be_read_is_one_dead_letter_with_its_bytes(stack: Stack, name: str) -> None:
    value, reason = WHOLE_RECORDS[name]
    place = stack.send(value, stack.new_organization())
    (letter,) = stack.dead_letters(place)
    assert letter["reason"] == reason
    assert bytes(letter["payload"]) == (value or b"")
    assert letter["source_index"] == 0


@pytest.mark.parametrize("name", [*BAD_EVENTS, *BAD_DATA])
def test_a_bad_event_is_a_dead_letter_that_names_the_field_and_its_neighbours_are_booked(
    stack: Stack, name: str
) -> None:
    org_id = stack.new_organization()
    bad, reason, named = _bad(org_id, name)
    good = [token_usage(org_id), node_call(org_id)]
    elements = [json.dumps(good[0]), json.dumps(bad), json.dumps(good[1])]
    place = stack.send(f"[{', '.join(elements)}]".encode(), org_id)
    (letter,) = stack.dead_letters(place)
    assert (letter["reason"], letter["source_index"]) == (reason, 1)
    assert named in letter["detail"]
    assert bytes(letter["payload"]).decode() == elements[1]
    assert {entry["event_id"] for entry in stack.entries(org_id, 2)} == {event["id"] for event in good}


@pytest.mark.parametrize("name", WHOLE_RECORDS)
def test_a_request_that_cannot_be_read_is_refused_as_a_record_is(stack: Stack, name: str) -> None:
    value, reason = WHOLE_RECORDS[name]
    answer = stack.ledger.post(USAGE, content=value or b"", headers={"Content-Type": "application/json"})
    assert answer.json()["code"] == reason
    assert answer.status_code == {"malformed_json": 400, "batch_too_large": 413}.get(reason, 422)


@pytest.mark.parametrize("name", [*BAD_EVENTS, *BAD_DATA])
def test_a_bad_event_in_a_request_is_named_in_the_words_of_metering_and_its_neighbours_are_taken(
    stack: Stack, name: str
) -> None:
    org_id = stack.new_organization()
    bad, reason, named = _bad(org_id, name)
    good = [token_usage(org_id), node_call(org_id)]

    def post() -> httpx.Response:
        return stack.ledger.post(USAGE, content=json.dumps([good[0], bad, good[1]]), headers=JSON)

    if reason in WITHOUT_PRICE:
        # Taken, for metering to decide, until the service is sure to know every card. And here nothing is echoed.
        wait_for("the door to know the cards", lambda: post().status_code == 207)
        named = ""
    answer = post()
    assert (answer.status_code, answer.json()["accepted"], answer.json()["refused"]) == (207, 2, 1)
    error = answer.json()["errors"][0]
    assert (error["index"], error["code"]) == (1, reason)
    assert named in f"{error['field']}: {error['detail']}"


@pytest.mark.parametrize(
    "ignored",
    [
        *('"\\ud800"', '"\\udfff\\ud800"', '{"\\ud800": "\\ud800"}', "1e999", "-1e999", "1E+400", "9" * 5_000),
        *(f"-{'9' * 400}", f"0.{'9' * 5_000}", "[" * 900 + "]" * 900),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_ignored_may_be_any_json_whichever_way_it_comes(stack: Stack, ignored: str) -> None:
    org_id = stack.new_organization()
    by_kafka, by_http, batched = (
        json.dumps(token_usage(org_id)).replace('"data": {', f'"note": {ignored}, "data": {{"more": {ignored}, ')
        for _ in range(3)
    )
    stack.send(by_kafka.encode(), org_id)
    for body in (by_http, f"[{batched}]"):
        answer = stack.ledger.post(USAGE, content=body, headers=JSON)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    assert len(stack.entries(org_id, 3)) == 3


def test_an_element_that_is_nested_too_deeply_is_refused_alone_whichever_way_it_comes(stack: Stack) -> None:
    org_id = stack.new_organization()
    deep = json.dumps(token_usage(org_id)).replace('"data": {', f'"data": {{"x": {"[" * 2_000}{"]" * 2_000}, ')
    by_kafka, by_http = (f"[{json.dumps(node_call(org_id))}, {deep}, {json.dumps(node_call(org_id))}]" for _ in "kh")
    (letter,) = stack.dead_letters(stack.send(by_kafka.encode(), org_id))
    assert (letter["reason"], letter["source_index"], bytes(letter["payload"]).decode()) == ("invalid_event", 1, deep)
    answer = stack.ledger.post(USAGE, content=by_http, headers=JSON)
    assert (answer.status_code, answer.json()["accepted"]) == (207, 2)
    assert [(error["index"], error["code"]) for error in answer.json()["errors"]] == [(1, "invalid_event")]
    assert len(stack.entries(org_id, 4)) == 4


@pytest.mark.parametrize("junk", [b"\\u0041", b"\x00", b"\\\\", b"sk- ", b"["], ids=repr)
def test_a_few_compressed_bytes_that_stand_for_many_stop_nobody(stack: Stack, junk: bytes) -> None:
    org_id = stack.new_organization()
    value = b'{"junk": "' + junk * (12_000_000 // len(junk)) + b'"}'
    (letter,) = stack.dead_letters(_send_squeezed(stack, org_id, value))
    stack.publish(node_call(org_id))
    assert (letter["reason"], letter["masked"]) == ("batch_too_large", False)
    assert value.startswith(bytes(letter["payload"]))
    assert 990_000 < len(letter["payload"]) <= 1_000_000
    assert len(stack.entries(org_id, 1)) == 1


def test_what_no_worker_has_room_for_is_not_even_unpacked(stack: Stack) -> None:
    org_id = stack.new_organization()
    (letter,) = stack.dead_letters(_send_squeezed(stack, org_id, b"\\u0041" * 10_000_000))
    stack.publish(node_call(org_id))
    assert (letter["reason"], bytes(letter["payload"])) == ("malformed_json", b"")
    assert "bytes uncompressed" in letter["detail"]
    assert len(stack.entries(org_id, 1)) == 1


def _send_squeezed(stack: Stack, org_id: str, value: bytes) -> tuple[int, int]:
    with closing(KafkaProducer(bootstrap_servers=stack.told["kafka"], **SQUEEZED)) as producer:
        sent = producer.send(USAGE_TOPIC, value=value, key=org_id.encode()).get(PATIENCE_SECONDS)
        return sent.partition, sent.offset


def test_a_leap_second_is_the_second_before(stack: Stack) -> None:
    org_id = stack.new_organization()
    stack.publish(node_call(org_id, time="2026-06-30T23:59:60Z"))
    (entry,) = stack.entries(org_id, 1)
    assert entry["occurred_at"] == datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)


def test_a_bad_event_alone_in_its_record_is_kept_byte_for_byte(stack: Stack) -> None:
    org_id = stack.new_organization()
    value = b' { "specversion":"1.0" ,"type":"usage.node_call.v1", "id":"\\u0041" }\n'
    (letter,) = stack.dead_letters(stack.send(value, org_id))
    assert bytes(letter["payload"]) == value
    assert letter["event_id"] == "A"


def test_another_payload_under_a_booked_id_is_a_conflict_and_changes_nothing(stack: Stack) -> None:
    org_id = stack.new_organization()
    first = token_usage(org_id)
    stack.publish(first)
    (entry,) = stack.entries(org_id, 1)
    other = first | {"data": first["data"] | {"input_tokens": 999}}
    (letter,) = stack.dead_letters(stack.publish(other))
    assert letter["reason"] == "identity_conflict"
    assert str(entry["entry_id"]) in letter["detail"]
    assert stack.entries(org_id) == [entry]


def test_the_same_payload_again_is_a_duplicate_however_it_is_written(stack: Stack) -> None:
    org_id = stack.new_organization()
    first = node_call(org_id, time="2026-11-02T10:00:00.5Z")
    again = first | {"time": "2026-11-02T12:00:00.500000+02:00", "unknown": [1], "data": first["data"] | {"calls": 1}}
    stack.publish(first, again)
    stack.wait_covered(stack.publish(again))
    assert [entry["kind"] for entry in stack.entries(org_id, 1)] == ["charge"]


def test_an_id_that_was_refused_is_free(stack: Stack) -> None:
    org_id = stack.new_organization()
    event = node_call(org_id, data={"model": "claude-unknown"})
    stack.dead_letters(stack.publish(event))
    stack.publish(event | {"data": event["data"] | {"model": "claude-sonnet-4-6"}})
    assert [entry["kind"] for entry in stack.entries(org_id, 1)] == ["charge"]


def test_the_copy_on_the_topic_says_why_and_where_from(stack: Stack) -> None:
    org_id = stack.new_organization()
    value = json.dumps([node_call(org_id), token_usage(org_id) | {"id": ""}]).encode()
    partition, offset = stack.send(value, org_id)
    ((headers, key, copy),) = stack.dead_letter_records([(partition, offset)])
    assert key == org_id.encode()
    assert json.loads(copy)["id"] == ""
    assert headers["reason"] == "invalid_event"
    assert "id" in headers["detail"]
    assert headers["source-topic"] == "byok.usage-events"
    assert (headers["source-partition"], headers["source-offset"]) == (str(partition), str(offset))
    assert headers["source-index"] == "1"
    assert datetime.fromisoformat(headers["failed-at"]).tzinfo is not None
    assert "masked" not in headers


@pytest.mark.parametrize(
    "secret",
    ["sk-proj-c4n4ryc4n4ryc4n4ry", "sk-ant-api03-c4n4ryc4n4ry", "AIzac4n4ryc4n4ryc4n4ry", "xai-c4n4ryc4n4ryc4n4ry"],
)
def test_a_key_in_a_refused_event_is_masked_in_row_and_copy(stack: Stack, secret: str) -> None:
    org_id = stack.new_organization()
    value = json.dumps(
        token_usage(org_id, id="", data={"agent_id": secret, "note": f"key={secret}\n{secret}"})
    ).encode()
    place = stack.send(value, org_id)
    (letter,) = stack.dead_letters(place)
    ((headers, _key, copy),) = stack.dead_letter_records([place])
    assert letter["masked"]
    assert headers["masked"] == "true"
    for text in (bytes(letter["payload"]), copy, letter["detail"].encode()):
        assert b"c4n4ry" not in text
