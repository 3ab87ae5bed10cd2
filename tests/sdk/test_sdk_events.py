"""The SDK's events: their identity, and that the ledger's own reader takes each as it is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from byok_sdk.acts import RunEvents
from byok_sdk.delivery import Waiting, request_body
from byok_sdk.errors import InvalidEventError, StepTakenError
from byok_sdk.events import TOKEN_USAGE, Whose, event_bytes
from byok_sdk.identity import response_event_id, run_event_id
from byok_sdk.leases import Lease, LeaseKey
from byok_sdk.usage.extraction import usage_of
from byok_sdk.usage.measured import Usage
from jsonschema import Draft202012Validator

from schemas.usage_events import EVENT_MODELS
from services.messages.usage_events import Accepted, read_record
from tests.sdk.recorded_answers import ANSWERS, ANTHROPIC

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 29, 9, 30, tzinfo=timezone(timedelta(hours=2)))
WHOSE = Whose("acme", "u1", "t1", "r42")


def run_events(whose: Whose = WHOSE) -> RunEvents:
    return RunEvents(whose, "runner", lambda: AT)


def lease(source: str = "byok") -> Lease:
    key = LeaseKey("acme", "u1", "t1", "anthropic")
    credential_id = "c-1" if source == "byok" else None
    return Lease("anthropic", source, "team_key", credential_id, AT, AT, 300, key)  # type: ignore[arg-type]


def answered(events: RunEvents, step: str = "plan", key: str | None = None, answers: int = 1) -> list[dict[str, Any]]:
    act = events.act(step, None, key, None)
    found = []
    for _ in range(answers):
        found.append(json.loads(act.answered(usage_of(ANTHROPIC, "anthropic"), "anthropic", lease())))
        act.recorded()
    return found


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


def test_ids_are_what_they_ever_were() -> None:
    """A release that made others would charge a second time what is sent again."""
    assert run_event_id(TOKEN_USAGE, "r42", "plan", "#1", 1) == "0dd5d4a4-f9ab-5274-bd92-cc62ed316c85"
    assert response_event_id(TOKEN_USAGE, "anthropic", "msg_01") == "5fc6448d-6d18-5f9a-ae94-05ff60b73fa2"


def test_a_run_that_is_carried_out_again_has_the_same_ids() -> None:
    first, again = run_events(), run_events()
    for events in (first, again):
        assert answered(events) == answered(run_events())
    assert ids(answered(first)) == ids(answered(again)) != ids(answered(run_events()))


def test_acts_of_one_step_and_answers_of_one_act_are_told_apart() -> None:
    events = run_events()
    found = [
        *answered(events, answers=2),
        *answered(events),
        *answered(events, key="1"),
        *answered(events, key="#1"),
        *answered(events, step="plan#1"),
        json.loads(events.tool("plan", 1, succeeded=True)),
    ]
    assert len(set(ids(found))) == len(found)


def test_a_key_that_was_given_before_is_refused_before_any_call() -> None:
    events = run_events()
    answered(events, key="doc-17")
    with pytest.raises(StepTakenError, match="doc-17"):
        events.act("plan", None, "doc-17", None)


def test_outside_of_a_run_the_provider_s_id_of_its_answer_decides() -> None:
    whose = WHOSE._replace(run_id=None)
    assert answered(run_events(whose)) == answered(run_events(whose))
    act = run_events(whose).act("plan", None, None, None)
    without_id = Usage("m", {"input": 1, "output": 1})
    first = act.answered(without_id, "anthropic", None)
    assert first == act.answered(without_id, "anthropic", None)
    act.recorded()
    assert first != act.answered(without_id, "anthropic", None)


def every_event() -> list[bytes]:
    events = run_events()
    bodies = [
        events.node("ask_ai", "anthropic", "claude-sonnet-4-6", 3, lease()),
        events.tool("search", 2, succeeded=False),
        events.workflow("weekly", "r41"),
        RunEvents(Whose("acme", "ü"), "runner", lambda: AT).tool("x" * 128, 1, succeeded=True),
    ]
    for recorded in ANSWERS:
        act = events.act("step", "agent", None, None)
        bodies.append(act.answered(usage_of(recorded.answer, recorded.provider), recorded.provider, lease("platform")))
    act = events.act("cut", None, None, None)
    bodies.append(act.answered(Usage("m", {"input": 1}, status="partial"), "xai", None))
    return bodies


def test_the_exported_schema_allows_each_event() -> None:
    schema = json.loads((ROOT / "schemas" / "json" / "usage-events.schema.json").read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema)
    for body in every_event():
        validator.validate(json.loads(body))


def test_the_ledger_s_reader_takes_each_event_as_it_is_meant() -> None:
    bodies = every_event()
    batch = request_body([Waiting(row, body) for row, body in enumerate(bodies)])
    read = read_record(batch, AT)
    assert len(read) == len(bodies)
    for body, outcome in zip(bodies, read, strict=True):
        assert isinstance(outcome, Accepted), outcome
        event = json.loads(body)
        assert outcome.event.identity.id == event["id"]
        assert outcome.event.occurred_at == AT
        # Nothing is told that is not read: no field is misspelt.
        known = EVENT_MODELS[event["type"]].model_fields["data"].annotation
        assert set(event["data"]) <= set(known.model_fields)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RunEvents(Whose("", "u"), "s", lambda: AT), "org_id"),
        (lambda: RunEvents(Whose("*", "u"), "s", lambda: AT), "org_id"),
        (lambda: RunEvents(Whose("o", "u" * 129), "s", lambda: AT), "user_id"),
        (lambda: RunEvents(Whose("o", "u", "a\nb"), "s", lambda: AT), "team_id"),
        (lambda: RunEvents(Whose("o", "u", None, "\ud800"), "s", lambda: AT), "run_id"),
        (lambda: run_events().tool("t", 0, succeeded=True), "calls"),
        (lambda: run_events().tool("t", 10**6 + 1, succeeded=True), "calls"),
        (lambda: run_events(Whose("o", "u")).workflow("w", None), "run_id"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT.replace(tzinfo=None), {}), "time"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT, {"usage": {}}), "usage"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT, {"usage": {"input": True}}), "usage.input"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT, {"usage": {"input": 10**10 + 1}}), "usage.input"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT, {"conditions": {"region": 1}}), "conditions.region"),
        (lambda: event_bytes(TOKEN_USAGE, "i", "s", AT, {"provider_cost_usd": "1e-3"}), "provider_cost_usd"),
    ],
)
def test_what_the_ledger_would_refuse_for_ever_is_refused_before_it_is_recorded(
    make: Callable[[], object], named: str
) -> None:
    with pytest.raises(InvalidEventError, match=named):
        make()
