"""Identity, quantity, and what the payload that is compared under one identity is made of."""

from __future__ import annotations

import pytest
from factories import NOON, PLATFORM_CLAIM, node_call, token_usage, tool_call, utc, workflow_run

from services.domain.usage import Claim, Identity, payload_hash

EVENTS = [node_call(), token_usage(), tool_call(), workflow_run()]


@pytest.mark.parametrize("event", EVENTS)
def test_identity_is_organization_source_and_id(event):
    assert event.identity == Identity("org-1", "runner", "event-1")


@pytest.mark.parametrize(
    ("event", "quantity"),
    [
        (node_call(calls=4), 4),
        (tool_call(calls=4), 4),
        (tool_call(calls=4, succeeded=False), 4),
        (token_usage(input_tokens=1_000, cached_input_tokens=400, output_tokens=30), 1_030),
        (workflow_run(), 1),
        (workflow_run(parent_run_id="run-0"), 1),
    ],
)
def test_quantity_is_calls_or_input_and_output_tokens_or_one_run(event, quantity):
    assert event.quantity == quantity


@pytest.mark.parametrize("event", EVENTS)
def test_the_payload_hash_is_32_bytes_and_the_same_every_time(event):
    assert len(payload_hash(event)) == 32
    assert payload_hash(event) == payload_hash(event._replace())


@pytest.mark.parametrize("field", ["org_id", "source", "id"])
def test_the_identity_is_no_part_of_the_payload(field):
    assert payload_hash(node_call(**{field: "another"})) == payload_hash(node_call())


def test_the_same_instant_is_the_same_payload_and_another_microsecond_is_not():
    assert payload_hash(node_call(occurred_at=utc("2026-05-01T14:00:00+02:00"))) == payload_hash(node_call())
    assert payload_hash(node_call(occurred_at=NOON.replace(microsecond=1))) != payload_hash(node_call())


CHANGED = [
    *(
        (event, {field: "another"})
        for event, fields in (
            (node_call(), ("user_id", "team_id", "run_id", "node", "provider", "model")),
            (token_usage(), ("user_id", "team_id", "run_id", "agent_id", "provider", "model")),
            (tool_call(), ("user_id", "team_id", "run_id", "tool")),
            (workflow_run(), ("user_id", "team_id", "run_id", "workflow_id", "parent_run_id")),
        )
        for field in fields
    ),
    (node_call(), {"calls": 2}),
    (tool_call(), {"calls": 2}),
    (tool_call(), {"succeeded": False}),
    (token_usage(), {"input_tokens": 1_001}),
    (token_usage(), {"cached_input_tokens": 1}),
    (token_usage(), {"output_tokens": 1}),
    (node_call(), {"claim": PLATFORM_CLAIM}),
    (node_call(), {"claim": Claim("key-1")}),
    (node_call(claim=Claim("key-1")), {"claim": PLATFORM_CLAIM}),
    (node_call(claim=Claim("key-1")), {"claim": Claim("key-2")}),
]


@pytest.mark.parametrize(("event", "change"), CHANGED)
def test_every_known_field_is_part_of_the_payload(event, change):
    assert payload_hash(event._replace(**change)) != payload_hash(event)


def test_events_of_two_types_are_two_payloads():
    assert len({payload_hash(event) for event in EVENTS}) == len(EVENTS)


def test_values_never_run_together_with_their_neighbours():
    one = node_call(user_id="a", team_id="b")
    hashes = {payload_hash(one._replace(user_id=u, team_id=t)) for u, t in (("a", "b"), ("ab", ""), ('a", "b', None))}
    assert len(hashes) == 3
    assert payload_hash(one._replace(team_id=None)) != payload_hash(one._replace(team_id="null"))
