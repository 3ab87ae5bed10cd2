"""The main job through the whole stack: a key is added, usage flows, the ledger shows list, charged and saved."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.e2e.running import Stack, node_call, token_usage
from tests.patience import PATIENCE_SECONDS, wait_for

ADVANCED, OWN_KEY = 20_000_000, 1_000_000
LONG_AGO = "2026-05-01T00:00:00Z"


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _money(entry: dict[str, Any]) -> tuple[int, int, int]:
    return entry["list_mc"], entry["charged_mc"], entry["saved_mc"]


def test_the_very_next_call_after_a_key_is_added_costs_one_credit(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    before, after = node_call(org_id, id="1-before"), node_call(org_id, id="2-after")
    before["time"] = _now()
    credential_id = stack.add_key(org_id, "personal", "ada", "anthropic")
    after["time"] = _now()
    stack.publish(before, after)
    first, second = stack.settled(org_id, 2).values()
    assert _money(first) == (ADVANCED, ADVANCED, 0)
    assert (first["key_source"], first["reason"]) == ("platform", "no_credential")
    assert _money(second) == (ADVANCED, OWN_KEY, ADVANCED - OWN_KEY)
    assert (second["key_source"], second["byok_scope"], second["reason"]) == ("byok", "personal", "personal_key")
    assert second["credential_id"] == credential_id


def test_an_event_in_binary_mode_is_the_same_event_and_is_charged_once(stack: Stack) -> None:
    org_id = stack.new_organization()
    event = token_usage(org_id)
    headers = [(f"ce_{name}", value.encode()) for name, value in event.items() if name != "data"]
    binary, data = [*headers, ("content-type", b"application/json")], json.dumps(event["data"]).encode()
    place = stack.producer.send("byok.usage-events", data, org_id.encode(), headers=binary).get(PATIENCE_SECONDS)
    (entry,) = stack.entries(org_id, 1)
    assert (entry["event_id"], entry["event_source"]) == (event["id"], event["source"])
    assert entry["input_tokens"] == event["data"]["input_tokens"]
    again = stack.publish(event)
    broken = stack.producer.send("byok.usage-events", b"{", org_id.encode(), headers=headers).get(PATIENCE_SECONDS)
    for partition, offset in ((place.partition, place.offset), again, (broken.partition, broken.offset)):
        stack.wait_covered((partition, offset))
    assert len(stack.entries(org_id)) == 1
    (letter,) = stack.dead_letters((broken.partition, broken.offset))
    assert letter["reason"] == "malformed_json"


def test_the_first_instant_of_a_key_counts_and_the_last_does_not(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "team", "red", "anthropic", since=LONG_AGO)
    stack.registry.delete(f"/v1/credentials/{credential_id}").raise_for_status()
    (active,) = stack.registry.get(f"/v1/credentials/{credential_id}").json()["active"]
    start, end = datetime.fromisoformat(active["from"]), datetime.fromisoformat(active["to"])
    tick = timedelta(microseconds=1)
    times = {"1": start - tick, "2": start, "3": end - tick, "4": end}
    for number, at in times.items():
        stack.publish(node_call(org_id, id=number, time=at.isoformat(), data={"team_id": "red"}))
    assert [entry["key_source"] for entry in stack.settled(org_id, 4).values()] == [
        "platform",
        "byok",
        "byok",
        "platform",
    ]


def _last(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["event_id"]: entry for entry in entries if entry["kind"] != "reversal"}


def test_agents_pay_half_and_what_is_no_model_usage_stays_as_it_is(stack: Stack) -> None:
    org_id = stack.new_organization("enterprise")
    stack.add_key(org_id, "organization", org_id, "anthropic", since=LONG_AGO)
    common = {"org_id": org_id, "user_id": "ada"}
    stack.publish(
        token_usage(org_id, id="agent"),
        _act("usage.tool_call.v1", "tool", {**common, "tool": "web_search", "calls": 3}),
        _act("usage.tool_call.v1", "tool-failed", {**common, "tool": "web_search", "succeeded": False}),
        _act("usage.workflow_run.v1", "run", {**common, "workflow_id": "w", "run_id": "r1"}),
        _act("usage.workflow_run.v1", "subflow", {**common, "workflow_id": "w", "run_id": "r2", "parent_run_id": "r1"}),
    )
    entries = stack.settled(org_id, 5)
    # 1,000 × 3 USD + 200 × 15 USD per million tokens is 0.006 USD: 1.2 credits.
    assert _money(entries["agent"]) == (1_200_000, 600_000, 600_000)
    assert entries["agent"]["quantity"] == 1_200
    assert _money(entries["tool"]) == (3_000_000, 3_000_000, 0)
    assert _money(entries["tool-failed"]) == (0, 0, 0)
    assert _money(entries["run"]) == (1_000_000, 1_000_000, 0)
    assert _money(entries["subflow"]) == (0, 0, 0)
    assert {entries[name]["key_source"] for name in entries if name != "agent"} == {"none"}
    assert {entries[name]["reason"] for name in entries if name != "agent"} == {"not_model_usage"}


def _act(event_type: str, event_id: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": event_id, "source": "tests", "type": event_type, "time": _now(), "data": data
    }  # fmt: skip


def test_a_key_that_arrives_late_is_worked_in_by_reversal_and_correction(stack: Stack) -> None:
    org_id = stack.new_organization("enterprise")
    stack.settle()
    events = [token_usage(org_id, id=f"{n:03}", time="2026-11-05T10:00:00Z") for n in range(50)]
    stack.publish(*events)
    charges = stack.entries(org_id, 50)
    credential_id = stack.add_key(org_id, "organization", org_id, "anthropic", since="2026-11-05T10:00:00Z")
    entries = stack.entries(org_id, 150)
    for charge in charges:
        first, *rest = [entry for entry in entries if entry["event_id"] == charge["event_id"]]
        assert first == charge
        reversal, correction = sorted(rest, key=lambda entry: entry["kind"] != "reversal")
        assert (reversal["kind"], correction["kind"]) == ("reversal", "correction")
        assert (reversal["revision"], correction["revision"]) == (1, 1)
        assert (reversal["adjusts"], correction["adjusts"]) == (charge["entry_id"], charge["entry_id"])
        for column in ("quantity", "input_tokens", "cached_input_tokens", "output_tokens", "list_mc", "charged_mc"):
            assert reversal[column] == -charge[column]
        assert correction["credential_id"] == credential_id
        assert correction["charged_mc"] * 2 == charge["charged_mc"]
        assert correction["registry_seq"] > charge["registry_seq"]


def test_a_plan_that_is_taken_back_is_charged_in_full_and_given_again_is_refunded(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    stack.add_key(org_id, "personal", "ada", "anthropic", since=LONG_AGO)
    stack.settle()
    stack.publish(node_call(org_id, id="a", time="2026-11-05T10:00:00Z"))
    assert stack.entries(org_id, 1)[0]["charged_mc"] == OWN_KEY
    stack.set_plan(org_id, "free", "2026-11-01T00:00:00Z")
    assert _last(stack.entries(org_id, 3))["a"]["reason"] == "plan_not_entitled"
    stack.set_plan(org_id, "pro", "2026-11-01T00:00:00Z")
    last = _last(stack.entries(org_id, 5))["a"]
    assert (last["revision"], last["charged_mc"], last["reason"]) == (2, OWN_KEY, "personal_key")
    assert sum(entry["charged_mc"] for entry in stack.entries(org_id)) == OWN_KEY


def test_what_the_runner_says_it_used_comes_first_if_it_can_be_true(stack: Stack) -> None:
    org_id = stack.new_organization("enterprise")
    own = stack.add_key(org_id, "organization", org_id, "anthropic", since=LONG_AGO)
    gone = stack.add_key(org_id, "organization", org_id, "openai", since=LONG_AGO)
    stack.registry.delete(f"/v1/credentials/{gone}").raise_for_status()
    (active,) = stack.registry.get(f"/v1/credentials/{gone}").json()["active"]
    end = datetime.fromisoformat(active["to"])
    openai = {"provider": "openai", "model": "gpt-5", "credential": {"source": "byok", "credential_id": gone}}
    stack.publish(
        node_call(org_id, id="platform", data={"credential": {"source": "platform"}}),
        node_call(org_id, id="claimed", data={"credential": {"source": "byok", "credential_id": own}}),
        node_call(org_id, id="unknown", data={"credential": {"source": "byok", "credential_id": "no-such-key"}}),
        node_call(org_id, id="leased", time=(end + timedelta(seconds=200)).isoformat(), data=openai),
    )
    entries = stack.settled(org_id, 4)
    said = {name: (e["key_source"], e["reason"], e["flags"]) for name, e in entries.items()}
    assert said == {
        "platform": ("platform", "platform_claimed", ["platform_fallback"]),
        "claimed": ("byok", "claimed_key", []),
        "unknown": ("byok", "organization_key", ["credential_claim_rejected"]),
        "leased": ("byok", "claimed_key", []),
    }


def test_metrics_tell_what_the_ledger_tells(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    stack.publish(node_call(org_id))
    stack.entries(org_id, 1)
    expected = stack.sql.execute(
        "SELECT sum(list_mc)::bigint AS mc, count(*) AS charges FROM ledger.entries WHERE kind = 'charge'"
    ).fetchone()
    assert expected is not None

    def shown() -> bool:
        text = "".join(httpx.get(url, timeout=PATIENCE_SECONDS).text for url in stack.told["metrics"])
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        listed = sum(float(value) for name, value in samples if name.startswith("byok_list_credits_total{"))
        recorded = sum(
            float(value)
            for name, value in samples
            if name.startswith("byok_usage_events_total{") and 'outcome="recorded"' in name
        )
        return math.isclose(listed, expected["mc"] / 1e6) and recorded == expected["charges"]

    wait_for("the metrics", shown)


def test_every_offset_is_covered_and_every_event_became_something(stack: Stack) -> None:
    org_id = stack.new_organization()
    place = stack.publish(node_call(org_id), node_call(org_id) | {"id": ""})
    stack.wait_covered(place)
    gaps = stack.sql.execute(
        """SELECT p.partition FROM ledger.source_partition p
           LEFT JOIN (SELECT source_partition_id, sum(to_offset - from_offset) AS covered, max(to_offset) AS upto,
                        sum(events - recorded - duplicates - dead_letters) AS residual
                      FROM ledger.covered_range GROUP BY 1) c USING (source_partition_id)
           WHERE next_offset > origin_offset
             AND (covered <> next_offset - origin_offset OR upto <> next_offset OR residual <> 0)"""
    ).fetchall()
    assert gaps == []
