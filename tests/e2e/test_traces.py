"""One trace from a request to its receipt: over HTTP, Kafka and the ledger, in logs and in spans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.running import Stack, node_call, start_stack, token_usage
from tests.otlp_receiver import Collector, collector
from tests.patience import wait_for

pytestmark = pytest.mark.slow

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
OTHER = "0af7651916cd43dd8448eb211c80319c"
KEY = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture(scope="module")
def spans() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, spans: Collector) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("traces") / "data"
    with start_stack(folder, BYOK_OTLP_TRACES_URL=spans.url, OTEL_BSP_SCHEDULE_DELAY="100") as running:
        yield running


def lines(stack: Stack, service: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stack.data_dir / "logs" / f"{service}.log").read_text().splitlines()]


def test_a_trace_goes_from_the_request_by_way_of_kafka_to_the_commit(stack: Stack, spans: Collector) -> None:
    org_id = stack.new_organization()
    event = node_call(org_id, note=KEY)
    answer = stack.ledger.post("/v1/usage-events", json=event, headers=SENT)
    assert answer.status_code == 202
    assert answer.headers["traceparent"].split("-")[1] == TRACE
    (entry,) = stack.entries(org_id, 1)
    (request,) = wait_for("the request", lambda: spans.named("POST /v1/usage-events"))
    (sent,) = wait_for("what was sent", lambda: spans.named("byok.usage-events send"))

    def booked() -> list[Any]:
        found = spans.named("byok.usage-events process")
        return [span for span in found if any(link.span_id == sent.span_id for link in span.links)]

    (batch,) = wait_for("the batch", booked)
    commits = wait_for("the commit", lambda: spans.named("ledger commit"))
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert answer.headers["traceparent"].split("-")[2] == request.span_id.hex()
    assert (sent.trace_id.hex(), sent.parent_span_id) == (TRACE, request.span_id)
    assert [link.trace_id.hex() for link in batch.links] == [TRACE]
    assert batch.span_id in {commit.parent_span_id for commit in commits}
    receipt = stack.ledger.get(f"/v1/entries/{entry['entry_id']}/receipt").json()
    assert receipt["traceparent"] == f"00-{TRACE}-{sent.span_id.hex()}-01"
    assert {"byok-ledger", "byok-metering"} <= {name for name, _ in spans.spans}
    for body in spans.bodies:
        for piece in (KEY[:24], org_id, event["id"]):
            assert piece.encode() not in body


def test_a_dead_letters_line_names_trace_place_and_event_without_a_key(stack: Stack) -> None:
    org_id = stack.new_organization()
    stack.publish(token_usage(org_id, id=f"{KEY} unpriced", data={"model": "nobody-knows-it"}))

    def said() -> list[dict[str, Any]]:
        return [each for each in lines(stack, "metering") if each.get("organization") == org_id]

    (line,) = wait_for("the line", said)
    assert (line["event"], line["reason"], line["topic"]) == ("dead letter", "unpriced_model", "byok.usage-events")
    assert (line["source"], line["id"], line["index"]) == ("tests", "[masked key] unpriced", 0)
    assert {"partition", "offset"} <= line.keys()


def test_a_conflict_names_the_trace_of_its_record(stack: Stack) -> None:
    org_id = stack.new_organization()
    for node, trace in (("one", TRACE), ("another", OTHER)):
        event = node_call(org_id, id="the-same", time="2026-11-01T00:00:00Z", data={"node": node})
        headers = {"traceparent": f"00-{trace}-{CALLER}-00"}
        stack.ledger.post("/v1/usage-events", json=event, headers=headers).raise_for_status()

    def said() -> list[dict[str, Any]]:
        return [each for each in lines(stack, "metering") if each.get("organization") == org_id]

    (line,) = wait_for("the line", said)
    assert (line["reason"], line["id"], line["trace_id"]) == ("identity_conflict", "the-same", OTHER)


def test_a_late_change_names_what_it_corrected(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    stack.settle()
    stack.publish(node_call(org_id, id="first", time="2026-11-01T00:00:00Z"))
    stack.entries(org_id, 1)
    stack.add_key(org_id, "personal", "ada", "anthropic", since="2026-10-01T00:00:00Z")
    stack.settle()
    named = [each["first"] for each in lines(stack, "metering") if each["event"] == "late change worked off"]
    assert [(each["source"], each["id"]) for each in named if each["organization"] == org_id] == [("tests", "first")]


def test_the_audit_log_has_the_trace_where_no_id_came(stack: Stack) -> None:
    org_id = stack.new_organization()
    path = f"/v1/organizations/{org_id}/plan"
    stack.registry.put(path, json={"plan": "pro"}, headers=SENT).raise_for_status()
    stack.registry.put(path, json={"plan": "enterprise"}, headers=SENT | {"X-Request-ID": "mine"}).raise_for_status()
    found = stack.registry.get("/v1/audit", params={"org_id": org_id}).json()["items"]
    assert {each["request_id"] for each in found} == {TRACE, "mine"}


def test_every_line_of_every_service_is_json(stack: Stack) -> None:
    for service in ("registry", "ledger", "metering", "journal"):
        assert all("level" in line for line in lines(stack, service))
