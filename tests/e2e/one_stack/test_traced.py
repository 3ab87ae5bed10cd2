"""A trace is answered, kept beside what is booked, shown by the receipt, and named on the line of a dead letter."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.running import Stack, node_call
from tests.patience import wait_for

TRACE, OWN = "4bf92f3577b34da6a3ce929d0e0e4736", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_receipt_shows_the_trace_of_the_request_or_of_the_event_itself(stack: Stack) -> None:
    org_id = stack.new_organization()
    events = [node_call(org_id, id="a"), node_call(org_id, id="b", traceparent=OWN)]
    sent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answer = stack.ledger.post("/v1/usage-events", json=events, headers=sent)
    assert (answer.status_code, answer.headers["traceparent"].split("-")[1]) == (202, TRACE)
    entries = stack.entries(org_id, 2)
    shown = [stack.ledger.get(f"/v1/entries/{entry['entry_id']}/receipt").json()["traceparent"] for entry in entries]
    assert shown == [answer.headers["traceparent"], OWN]


def test_what_comes_over_kafka_without_one_has_none_in_its_receipt(stack: Stack) -> None:
    org_id = stack.new_organization()
    stack.publish(node_call(org_id))
    (entry,) = stack.entries(org_id, 1)
    assert stack.ledger.get(f"/v1/entries/{entry['entry_id']}/receipt").json()["traceparent"] is None


def test_the_line_of_a_dead_letter_names_event_place_and_trace(stack: Stack) -> None:
    org_id = stack.new_organization()
    partition, offset = stack.publish(node_call(org_id, id="c", traceparent=OWN, data={"model": "nobody-knows-it"}))

    def said() -> list[dict[str, Any]]:
        lines = map(json.loads, (stack.data_dir / "logs" / "metering.log").read_text().splitlines())
        return [line for line in lines if line.get("organization") == org_id]

    (line,) = wait_for("the line", said)
    assert (line["reason"], line["source"], line["id"]) == ("unpriced_model", "tests", "c")
    assert (line["partition"], line["offset"], line["trace_id"]) == (partition, offset, OWN.split("-")[1])
