"""Usage events over HTTP: what is good is acknowledged once the broker has it, byte for byte; the rest is named."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, TopicPartition
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from services.ledger.ingest import RECORD_BYTES_MAX
from services.ledger.main import build_app
from services.local.children import listens
from services.local.embedded.broker import broker_program
from services.local.endpoints import Ports
from services.local.processes import StopSwitch, Supervisor
from services.messages.usage_events import read_record
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.patience import PATIENCE_SECONDS
from tests.topic_reader import read_on

URL = "/v1/usage-events"
JSON = {"Content-Type": "application/json"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
# It is to take 5 s, and takes longer on a slow machine; a client of Kafka left alone waits for two minutes.
BOUNDED_SECONDS = 40
TRACED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def event(event_id="e1", org_id="acme", event_type="usage.node_call.v1", **data):
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "runner/1",
        "type": event_type,
        "time": "2026-05-01T12:00:00Z",
        "data": {"org_id": org_id, "user_id": "ann", "node": "ask_ai", "provider": "openai", "model": "m", **data},
    }


def read(value):
    """The events in a record or a request, as metering reads them."""
    outcomes: Any = read_record(value, datetime.now(UTC))
    return [outcome.event for outcome in outcomes]


@pytest.fixture
def topic(stack):
    """What was written since the test began, or since one asked: ``topic(n)`` is n records."""
    bootstrap = stack.ports.address("kafka")
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition("byok.usage-events", number) for number in range(12)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    read_on(consumer, bootstrap)

    def written(count):
        records = read_on(consumer, bootstrap)
        assert len(records) == count
        return records

    yield written
    consumer.close()


@pytest.fixture
def runner(bearer):
    return bearer("runner", scope="usage:write") | JSON


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/cloudevents+json; charset=utf-8", "application/cloudevents-batch+json"],
)
def test_a_single_event_arrives_as_it_was_sent(client, runner, topic, media_type):
    # Spaces, an unknown field, a big number and letters beyond ASCII: bytes that a second encoding would change.
    body = json.dumps(event(note="größe", big=10**40), ensure_ascii=False, indent=1).encode() + b"\n"
    response = client.post(URL, content=body, headers=runner | {"Content-Type": media_type})
    assert (response.status_code, response.json()) == (202, {"accepted": 1})
    (record,) = topic(1)
    assert (record.key, record.value) == (b"acme", body)


def test_each_record_names_the_trace_of_its_request(client, runner, topic):
    answer = client.post(URL, json=[event("e1"), event("e2", "another")], headers=runner | JSON | TRACED)
    assert answer.status_code == 202
    told = answer.headers["traceparent"]
    assert told.split("-")[1] == TRACE
    batch = b"application/cloudevents-batch+json"
    assert [dict(record.headers) for record in topic(2)] == [{"content-type": batch, "traceparent": told.encode()}] * 2


@pytest.mark.parametrize("media_type", ["application/json", None])
def test_an_event_in_binary_mode_arrives_as_the_same_event(client, runner, topic, media_type):
    sent = event(user_id="größe")
    attributes = {f"ce-{name}": quote(value) for name, value in sent.items() if name != "data"}
    headers = (
        {"Authorization": runner["Authorization"]} | attributes | ({"Content-Type": media_type} if media_type else {})
    )
    answer = client.post(URL, content=json.dumps(sent["data"]).encode(), headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    (record,) = topic(1)
    assert (record.key, json.loads(record.value)) == (b"acme", sent)
    assert dict(record.headers)["content-type"] == b"application/cloudevents+json"


def test_what_is_wrong_in_binary_mode_is_named(client, runner, topic):
    attributes = {f"ce-{name}": value for name, value in event().items() if name not in {"data", "time"}}
    answer = client.post(URL, content=json.dumps(event()["data"]).encode(), headers=runner | attributes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_event")
    assert [error["field"] for error in answer.json()["errors"]] == ["time"]
    assert client.post(URL, content=b"{", headers=runner | attributes).json()["code"] == "malformed_json"
    assert topic(0) == []


def test_a_batch_of_one_organization_is_one_record_as_it_was_sent(client, runner, topic):
    body = json.dumps([event(f"e{n}") for n in range(1_000)]).encode()
    assert client.post(URL, content=body, headers=runner).json() == {"accepted": 1_000}
    (record,) = topic(1)
    assert (record.key, record.value) == (b"acme", body)


def test_each_organization_gets_one_record_with_its_events_in_order(client, runner, topic):
    sent = [event(f"e{n}", org_id=f"org-{n % 3}", note="ö", odd=1.50) for n in range(11)]
    body = json.dumps(sent, ensure_ascii=False, indent=2).replace("1.5", "1.50").encode()
    assert client.post(URL, content=body, headers=runner).status_code == 202
    records = {record.key.decode(): record.value for record in topic(3)}
    for org_id, value in records.items():
        assert json.loads(value) == [one for one in sent if one["data"]["org_id"] == org_id]
        # Each event keeps its very bytes.
        assert b'"odd": 1.50' in value
        assert "ö".encode() in value


def test_a_key_in_a_field_that_nobody_reads_does_not_reach_the_topic(client, runner, topic):
    canary = "sk-ant-api03-canary0123456789"
    sent = [event("e1", api_key=canary), event("e2", org_id="other") | {"headers": {"x-api-key": canary}}]
    disguised = json.dumps(sent).replace("sk-", "\\u0073k-")
    assert client.post(URL, content=disguised, headers=runner).json() == {"accepted": 2}
    records = topic(2)
    assert not any(canary.removeprefix("sk-").encode() in record.value for record in records)
    assert {one for record in records for one in read(record.value)} == set(read(json.dumps(sent).encode()))


def test_a_batch_too_large_for_one_record_is_split_in_order(client, runner, topic):
    sent = [event(f"e{n}", note="x" * 30_000) for n in range(80)]
    assert client.post(URL, content=json.dumps(sent).encode(), headers=runner).json() == {"accepted": 80}
    records = sorted(topic(3), key=lambda record: record.offset)
    assert len({record.partition for record in records}) == 1
    assert all(len(record.value) <= RECORD_BYTES_MAX for record in records)
    assert [one for record in records for one in json.loads(record.value)] == sent


def test_an_event_too_large_for_a_record_is_refused(client, runner, topic):
    sent = [event("small"), event("large", note="x" * 1_000_000)]
    response = client.post(URL, content=json.dumps(sent).encode(), headers=runner)
    assert (response.status_code, response.json()["accepted"], response.json()["refused"]) == (207, 1, 1)
    assert [(error["index"], error["code"]) for error in response.json()["errors"]] == [(1, "invalid_event")]
    (record,) = topic(1)
    assert json.loads(record.value) == sent[:1]


DEEP = b"[" * 100_000 + b"]" * 100_000
NESTED = json.dumps(event()).encode()[:-2] + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}}"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b'{"a": NaN}', 400, "malformed_json"),
        (b'{"a": Infinity}', 400, "malformed_json"),
        (json.dumps(event("\ud800")).encode(), 422, "invalid_event"),
        (json.dumps(event(calls=777)).replace("777", "9" * 5_000).encode(), 422, "invalid_event"),
        (json.dumps(event(org_id="*")).encode(), 422, "invalid_event"),
        (json.dumps(event() | {"time": "2099-01-01T00:00:00Z"}).encode(), 422, "time_in_future"),
        (DEEP, 422, "invalid_event"),
        (b"[]", 422, "invalid_event"),
        (b"1", 422, "invalid_event"),
        (b"null", 422, "invalid_event"),
        (b'"text"', 422, "invalid_event"),
        (b"[[]]", 422, "invalid_event"),
        (b'{"type": 5}', 422, "invalid_event"),
        (json.dumps(event(event_type="usage.other.v1")).encode(), 422, "unsupported_type"),
        (json.dumps(event(calls=0)).encode(), 422, "invalid_event"),
        (json.dumps(event(calls=10**30)).encode(), 422, "invalid_event"),
        (json.dumps(event(calls=1.0)).encode(), 422, "invalid_event"),
        (json.dumps(event(user_id="a\u0000b")).encode(), 422, "invalid_event"),
        (json.dumps([event()] * 1_001).encode(), 413, "batch_too_large"),
        (b" " * (4 * 1024 * 1024 + 1), 413, "request_too_large"),
    ],
)
def test_what_is_refused_is_a_problem_with_a_stable_code(client, runner, body, status, code):
    response = client.post(URL, content=body, headers=runner)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def test_only_the_event_that_nobody_can_read_is_refused_for_its_depth(client, runner, topic):
    too_deep = NESTED.replace(b"[" * 900, b"[" * 1_100).replace(b"]" * 900, b"]" * 1_100)
    response = client.post(URL, content=b"[" + NESTED + b"," + too_deep + b"]", headers=runner)
    assert (response.status_code, response.json()["accepted"]) == (207, 1)
    assert [(error["index"], error["code"]) for error in response.json()["errors"]] == [(1, "invalid_event")]
    assert [record.value for record in topic(1)] == [b"[" + NESTED + b"]"]


def test_bad_events_are_named_without_an_echo_and_the_good_one_is_taken(client, runner, topic):
    canary = "sk-proj-canary0123456789abcdef"
    sent = [
        event("good"),
        event("e1", calls=canary),
        event("e2", event_type=canary),
        event("e3", credential={"source": canary}),
        event("e4", credential={"source": "byok"}),
        canary,
    ]
    response = client.post(URL, json=sent, headers=runner)
    answer = response.json()
    assert (response.status_code, answer["accepted"], answer["refused"]) == (207, 1, 5)
    assert [(error["index"], error["field"], error["code"]) for error in answer["errors"]] == [
        (1, "data.calls", "invalid_event"),
        (2, "type", "unsupported_type"),
        (3, "data.credential", "invalid_event"),
        (4, "data.credential.credential_id", "invalid_event"),
        (5, "", "invalid_event"),
    ]
    assert "canary" not in response.text
    (record,) = topic(1)
    assert b"canary" not in record.value
    assert read(record.value) == read(json.dumps(sent[0]).encode())


def test_the_code_is_that_of_the_first_bad_event(client, runner, topic):
    response = client.post(URL, json=[event("a", event_type="x"), event("b", calls=0)], headers=runner)
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_type")
    assert [error["code"] for error in response.json()["errors"]] == ["unsupported_type", "invalid_event"]
    assert topic(0) == []


def test_a_token_is_held_to_its_scope_and_organization(client, bearer, topic):
    def answer(headers, *events):
        response = client.post(URL, json=list(events), headers=headers | JSON)
        return response.status_code, response.json().get("code")

    assert answer({}, event()) == (401, "unauthenticated")
    assert answer(bearer(scope="ledger:read"), event()) == (403, "insufficient_scope")
    own = bearer(scope="usage:write", org_id="acme")
    # Nothing of a mixed request is accepted.
    assert answer(own, event("a"), event("b", org_id="other")) == (403, "organization_forbidden")
    assert topic(0) == []
    assert answer(own, event("a")) == (202, None)
    assert len(topic(1)) == 1


def test_other_media_types_are_415(client, runner):
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = client.post(URL, content=b"{}", headers=runner | {"Content-Type": media_type})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


class Proxy:
    """A TCP proxy before the broker, which an outage can be made with: it stops forwarding, and starts again."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = True
        self.writable = True
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.target))
            self.pairs += [near, far]
            for source, sink, asks in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, asks), daemon=True).start()

    def _pump(self, source, sink, asks):
        try:
            while data := source.recv(65_536):
                # After its length, a request begins with the number of what it asks for: 0 is to store records.
                if self.writable or not asks or data[4:6] != b"\0\0":
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def cut(self):
        self.open = False
        for end in self.pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self):
        self.cut()
        self.listener.close()


@pytest.fixture
def fragile(stack, tmp_path):
    """A broker of its own behind a proxy, because the broker tells its clients the address to come back to."""
    port = Ports.free_block().kafka
    proxy = Proxy(port)
    program = broker_program(port, tmp_path, dict(os.environ))
    # It advertises the proxy.
    command = list(program.command)
    place = command.index("--kafka-advertised-listener-url") + 1
    command[place] = f"tcp://127.0.0.1:{proxy.port}"
    supervisor = Supervisor(tmp_path, StopSwitch())
    broker = supervisor.start(replace(program, command=tuple(command)))
    supervisor.wait_until(
        lambda: listens(port), time.monotonic() + PATIENCE_SECONDS, lambda: broker.report("does not answer")
    )
    create_topics(KafkaAccess(f"127.0.0.1:{proxy.port}"), replication_factor=1)
    yield proxy
    proxy.close()
    supervisor.stop()


def test_a_broker_that_is_away_is_503_in_bounded_time_and_comes_back(stack, database, fragile, bearer):
    headers = bearer(scope="usage:write") | JSON
    app = build_app(stack.settings(database, kafka_bootstrap=f"127.0.0.1:{fragile.port}"))
    with TestClient(app) as client:
        assert client.post(URL, json=event("before"), headers=headers).status_code == 202
        fragile.cut()
        began = time.monotonic()
        response = client.post(URL, json=[event("during")], headers=headers)
        assert time.monotonic() - began < BOUNDED_SECONDS
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert "same ids" in response.json()["detail"]
        assert "canary" not in response.text
        fragile.open = True
        deadline = time.monotonic() + PATIENCE_SECONDS
        while client.post(URL, json=[event("during")], headers=headers).status_code != 202:
            assert time.monotonic() < deadline, "it did not recover"


def test_without_any_broker_the_service_starts_says_so_and_goes_on_answering(stack, database, bearer):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    app = build_app(stack.settings(database, kafka_bootstrap=f"127.0.0.1:{port}"))
    with TestClient(app) as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert set(ready.json()["missing"]) == {"broker"}
        began = time.monotonic()
        response = client.post(URL, json=event(), headers=bearer(scope="usage:write") | JSON)
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
        assert time.monotonic() - began < BOUNDED_SECONDS
        headers = bearer(scope="ledger:read")
        assert client.get("/v1/organizations/acme/entries", headers=headers).status_code == 200


def test_a_broker_that_answers_and_stores_nothing_makes_the_service_unready(stack, database, fragile, bearer):
    headers = bearer(scope="usage:write") | JSON
    app = build_app(stack.settings(database, kafka_bootstrap=f"127.0.0.1:{fragile.port}"))
    with TestClient(app) as client:
        assert client.post(URL, json=event("before"), headers=headers).status_code == 202
        fragile.writable = False
        with capture_logs(processors=[merge_contextvars]) as lines:
            response = client.post(URL, json=event("during"), headers=headers | TRACED)
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
        assert response.json()["trace_id"] == TRACE
        (line,) = [each for each in lines if each["event"] == "usage events were not acknowledged"]
        assert line["records"] == [{"events": 1, "organization": "acme", "source": "runner/1", "id": "during"}]
        assert (line["topic"], line["trace_id"]) == ("byok.usage-events", TRACE)
        # Connected anew it answers what it is asked, and is not ready all the same.
        told = _wait_for(lambda: client.get("/readyz").json()["missing"]["broker"], "publishing usage events failed")
        assert "KafkaTimeoutError" in told
        fragile.writable = True
        _wait_for(lambda: str(client.post(URL, json=event("during"), headers=headers).status_code), "202")
        assert client.get("/readyz").status_code == 200


def _wait_for(look, part):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while part not in (found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_who_hands_in_too_often_is_told_when_to_come_again(stack, database, bearer):
    app = build_app(stack.settings(database, ingest_rate_limit_per_second=0.01, ingest_rate_limit_burst=2))
    runner, other = bearer("runner", "usage:write"), bearer("other", "usage:write")
    operator = bearer("platform", "usage:write", org_role="admin")
    with TestClient(app) as client:
        answers = [client.post(URL, json=event(), headers=runner) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert (answers[2].json()["code"], int(answers[2].headers["retry-after"]) > 0) == ("rate_limited", True)
        assert client.post(URL, json=event(), headers=other).status_code == 202
        assert {client.post(URL, json=event(), headers=operator).status_code for _ in range(5)} == {202}
