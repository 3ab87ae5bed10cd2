"""Requests billed by unit, through the whole stack: 60 worked cases, receipts, corrections, and names of models."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.e2e.running import Stack, node_call
from tests.patience import wait_for

CASES = Path(__file__).parents[2] / "contract" / "data" / "price-cases.csv"
SONNET = {"provider": "anthropic", "model": "claude-sonnet-4-6"}
USAGE = "/v1/usage-events"
WHEN = "2026-11-23T10:00:00Z"


def request_usage(org_id: str, event_id: str, usage: dict[str, int], **changes: Any) -> dict[str, Any]:
    data = {"org_id": org_id, "user_id": "ada", "agent_id": "a", **SONNET, "usage": usage}
    event = {"specversion": "1.0", "id": event_id, "source": "tests", "type": "usage.token_usage.v2", "time": WHEN}
    extra = changes.pop("data", {})
    return event | changes | {"data": data | extra}


def refused(stack: Stack, place: tuple[int, int], how_many: int) -> dict[str, tuple[str, str]]:
    return {row["event_id"]: (row["reason"], row["detail"]) for row in stack.dead_letters(place, how_many)}


def test_every_worked_case_is_booked_to_the_microcredit(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    with CASES.open(newline="", encoding="utf-8") as file:
        cases = {f"{number:02}": case for number, case in enumerate(csv.DictReader(file))}
    stack.publish(
        *(
            request_usage(
                org_id,
                event_id,
                json.loads(case["usage"]),
                time=case["time"],
                data={
                    "provider": case["provider"],
                    "model": case["model_as_reported"],
                    "conditions": json.loads(case["conditions"]),
                },
            )
            for event_id, case in cases.items()
        )
    )
    entries = stack.settled(org_id, len(cases))
    for event_id, case in cases.items():
        entry = entries[event_id]
        usage = json.loads(case["usage"])
        assert entry["list_mc"] == round(Fraction(case["expected_list_usd"]) * 200 * 10**6), case
        assert entry["saved_mc"] == 0
        assert (entry["model"], entry["priced_model"]) == (case["model_as_reported"], case["priced_model"])
        assert entry["usage"] == usage
        assert entry["conditions"] == (json.loads(case["conditions"]) or None)
        assert entry["rate_card"] == "2026-11-20"
        assert entry["input_tokens"] == usage.get("input", 0)
        assert entry["cached_input_tokens"] == usage.get("cache_read", 0)
        assert entry["output_tokens"] == usage.get("output", 0)
        assert entry["quantity"] == usage.get("input", 0) + usage.get("output", 0)
    dear = max(entries.values(), key=lambda entry: len(entry["usage"]))
    receipt = stack.ledger.get(f"/v1/entries/{dear['entry_id']}/receipt").json()
    assert receipt["evidence"]["agrees"]
    assert receipt["entry"]["usage"] == dear["usage"]
    lines = receipt["evidence"]["rate_card"]["lines"]
    assert {line["unit"] for line in lines} <= set(dear["usage"])
    assert all(
        any(f"{line['count']:,} {line['unit']} × " in step for step in receipt["evidence"]["arithmetic"])
        for line in lines
    )


def test_the_same_request_again_is_a_duplicate_and_another_count_a_conflict(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    first = request_usage(org_id, "a", {"input": 10, "output": 2})
    again = request_usage(
        org_id, "a", {"output": 2, "input": 10, "cache_read": 0}, data={"conditions": {}, "usage_status": "final"}
    )
    place = stack.publish(first, again, request_usage(org_id, "a", {"input": 11, "output": 2}))
    assert refused(stack, place, 1)["a"][0] == "identity_conflict"
    assert len(stack.settled(org_id, 1)) == 1


def test_a_late_key_takes_back_every_unit_and_charges_half(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    stack.settle()
    usage = {"input": 1_000, "cache_read": 400, "cache_write_5m": 100, "output": 50, "web_search": 2}
    evidence = {"usage_status": "partial", "provider_request_id": "req-1", "provider_cost_usd": "0.02"}
    stack.publish(request_usage(org_id, "a", usage, data={"conditions": {"region": "global"}, **evidence}))
    (charge,) = stack.entries(org_id, 1)
    # 500 × 3 + 400 × 0.3 + 100 × 3.75 + 50 × 15 USD per million, and 2 × 0.01 USD: 0.022745 USD.
    assert (charge["list_mc"], charge["charged_mc"]) == (4_549_000, 4_549_000)
    assert charge["flags"] == ["usage_partial"]
    stack.add_key(org_id, "personal", "ada", "anthropic", since=WHEN)
    reversal, correction = sorted(stack.entries(org_id, 3)[1:], key=lambda entry: entry["kind"] != "reversal")
    assert reversal["usage"] == {unit: -count for unit, count in usage.items()}
    assert correction["usage"] == usage
    assert reversal["conditions"] == correction["conditions"] == {"region": "global"}
    assert (correction["list_mc"], correction["charged_mc"]) == (4_549_000, 2_274_500)
    receipt = stack.ledger.get(f"/v1/entries/{correction['entry_id']}/receipt").json()
    assert receipt["evidence"]["agrees"]


def test_what_nobody_prices_is_a_dead_letter_that_names_it(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    place = stack.publish(
        *[
            request_usage(org_id, "good", {"input": 1}),
            request_usage(org_id, "unit", {"input": 1, "input_audio": 1}),
            request_usage(org_id, "condition", {"input": 1}, data={"conditions": {"service_tier": "warp"}}),
            request_usage(org_id, "parts", {"input": 1, "cache_read": 2}),
            request_usage(org_id, "none", {}),
            request_usage(org_id, "early", {"input": 1, "reasoning": 0}, time="2026-11-10T00:00:00Z"),
            request_usage(org_id, "early unit", {"output": 1, "reasoning": 1}, time="2026-11-10T00:00:00Z"),
            request_usage(
                org_id,
                "early condition",
                {"input": 1},
                time="2026-11-10T00:00:00Z",
                data={"conditions": {"service_tier": "default"}},
            ),
        ]
    )
    assert set(stack.settled(org_id, 2)) == {"good", "early"}
    letters = refused(stack, place, 6)
    assert {event_id: reason for event_id, (reason, _) in letters.items()} == {
        "unit": "unpriced_unit",
        "condition": "unpriced_condition",
        "parts": "invalid_event",
        "none": "invalid_event",
        "early unit": "unpriced_unit",
        "early condition": "unpriced_condition",
    }
    assert letters["unit"][1].startswith("data.usage.input_audio: rate card 2026-11-20 has no price for input_audio")
    assert letters["parts"][1].startswith("data.usage.cache_read: ")
    assert letters["condition"][1].startswith("data.conditions.service_tier: ")


def test_the_door_says_the_same_before_anybody_has_the_event(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    batch = [
        request_usage(org_id, "a", {"input": 1}),
        request_usage(org_id, "b", {"input": 1, "input_audio": 1}),
        request_usage(org_id, "c", {"input": 1}, data={"model": "claude-sonnet-4.6"}),
    ]
    # While it is not certain that every card is known, it leaves the word to metering.
    wait_for("the door to know the cards", lambda: stack.ledger.post(USAGE, json=batch[2]).status_code == 422)
    answer = stack.ledger.post(USAGE, json=batch)
    assert answer.status_code == 207
    errors = {error["index"]: error for error in answer.json()["errors"]}
    assert (errors[1]["code"], errors[1]["field"]) == ("unpriced_unit", "data.usage.input_audio")
    assert errors[2]["code"] == "unpriced_model"
    assert errors[2]["detail"].endswith("did you mean claude-sonnet-4-6 or claude-sonnet-4-5?")
    assert set(stack.settled(org_id, 1)) == {"a"}


def test_a_name_that_is_added_prices_what_comes_and_what_is_sent_again(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    name = f"sonnet of {org_id}"
    place = stack.publish(node_call(org_id, id="a", data={"model": name}))
    assert refused(stack, place, 1)["a"][0] == "unpriced_model"
    wanted = {"provider": "anthropic", "aliases": {name: "claude-sonnet-4-6"}}
    added = stack.registry.post("/v1/models/aliases", json=wanted)
    assert (added.status_code, added.json()["added"]) == (201, [name])
    assert stack.registry.post("/v1/models/aliases", json=wanted).status_code == 200
    stack.settle()
    stack.publish(
        node_call(org_id, id="a", data={"model": name}), request_usage(org_id, "b", {"input": 1}, data={"model": name})
    )
    entries = stack.settled(org_id, 2)
    assert entries["a"]["charged_mc"] == 20_000_000
    assert {(entry["model"], entry["priced_model"]) for entry in entries.values()} == {(name, "claude-sonnet-4-6")}
    listed = stack.registry.get("/v1/models", params={"at": WHEN}).json()
    (sonnet,) = [each for each in listed["models"] if each["model"] == "claude-sonnet-4-6"]
    assert name in sonnet["aliases"]
    assert sonnet["usd"]["cache_write_5m"] == "3.75"
    quoted = stack.ledger.post(
        "/v1/quote",
        json={
            "org_id": org_id,
            "user_id": "ada",
            "provider": "anthropic",
            "model": name,
            "usage": {"input": 1_000_000},
            "conditions": {"processing": "batch"},
        },
    )
    assert quoted.json()["token_usage"]["list_mc"] == 300_000_000, quoted.text


def test_names_are_only_ever_added_and_only_for_models_that_a_card_lists(stack: Stack) -> None:
    def answer(aliases: dict[str, str], provider: str = "openai") -> tuple[int, str, str]:
        got = stack.registry.post("/v1/models/aliases", json={"provider": provider, "aliases": aliases})
        return got.status_code, got.json()["code"], got.json()["detail"]

    assert answer({"gpt-4o-2024-08-06": "gpt-5"})[:2] == (409, "alias_exists")
    status, code, detail = answer({"x": "gpt-4oo"})
    assert (status, code) == (422, "unknown_model")
    assert "did you mean gpt-4o" in detail
    assert answer({"x": "gpt-4o"}, provider="nobody")[:2] == (422, "unknown_model")
    assert answer({})[:2] == (422, "invalid_request")
