"""Identity, quantity, and what the payload that is compared under one identity is made of."""

from __future__ import annotations

from collections import namedtuple
from datetime import UTC, datetime
from typing import Any

import pytest

from services.domain.entries import EntryKind, entry_id
from services.domain.usage import Claim, EventType, Identity, UsageEvent, payload_hash
from tests.factories import (
    NOON,
    PLATFORM_CLAIM,
    node_call,
    request_usage,
    token_usage,
    tool_call,
    utc,
    workflow_run,
)

EVENTS = [node_call(), token_usage(), request_usage(), tool_call(), workflow_run()]


def test_each_type_of_event_is_among_those_tried_here():
    assert {event.type for event in EVENTS} == set(EventType)


@pytest.mark.parametrize("event", EVENTS)
def test_identity_is_organization_source_and_id(event):
    assert event.identity == Identity("org-1", "runner", "event-1")
    assert entry_id(event, 1, EntryKind.REVERSAL) == entry_id(event.identity, 1, EntryKind.REVERSAL)


@pytest.mark.parametrize(
    ("event", "quantity"),
    [
        (node_call(calls=4), 4),
        (tool_call(calls=4), 4),
        (tool_call(calls=4, succeeded=False), 4),
        (token_usage(input_tokens=1_000, cached_input_tokens=400, output_tokens=30), 1_030),
        (request_usage({"input": 1_000, "cache_read": 400, "output": 30, "web_search": 7}), 1_030),
        (request_usage({"web_search": 7}), 0),
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
            (
                request_usage(),
                (
                    *("user_id", "team_id", "run_id", "agent_id", "provider", "model"),
                    *("provider_request_id", "provider_cost_usd"),
                ),
            ),
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
    (request_usage(), {"usage": (("input", 1_001), ("output", 200))}),
    (request_usage(), {"usage": (("input", 1_000), ("output", 200), ("web_search", 1))}),
    (request_usage({"a": 1, "b": 2}), {"usage": (("a", 2), ("b", 1))}),
    (request_usage(), {"conditions": (("region", "us"),)}),
    (request_usage(conditions={"region": "us"}), {"conditions": (("region", "eu"),)}),
    (request_usage(), {"is_partial": True}),
    (request_usage(), {"claim": PLATFORM_CLAIM}),
    (request_usage(), {"claim": Claim("key-1")}),
    (request_usage(claim=Claim("key-1")), {"claim": Claim("key-2")}),
    (node_call(), {"claim": PLATFORM_CLAIM}),
    (node_call(), {"claim": Claim("key-1")}),
    (node_call(claim=Claim("key-1")), {"claim": PLATFORM_CLAIM}),
    (node_call(claim=Claim("key-1")), {"claim": Claim("key-2")}),
]


@pytest.mark.parametrize(("event", "change"), CHANGED)
def test_every_known_field_is_part_of_the_payload(event, change):
    assert payload_hash(event._replace(**change)) != payload_hash(event)


def test_what_is_at_its_default_is_no_part_of_the_payload_by_unit():
    """So a release that knows more fields, or a runner that reports a unit it did not use, sends the same event."""
    assert payload_hash(request_usage({"input": 1_000, "output": 200, "cache_read": 0})) == payload_hash(
        request_usage()
    )


@pytest.mark.parametrize("field", ["agent_id", "team_id", "run_id", "provider_request_id", "provider_cost_usd"])
def test_what_is_not_said_is_no_part_of_the_payload_by_unit_either(field):
    silent = request_usage(**dict.fromkeys(("agent_id", "team_id", "run_id"), None))
    assert getattr(silent, field) is None
    assert len({payload_hash(silent), payload_hash(silent._replace(**{field: "1"}))}) == 2


def test_names_and_values_of_the_payload_by_unit_never_run_together():
    texts: list[dict[str, Any]] = [{"team_id": "us"}, {"conditions": (("team_id", "us"),)}, {"run_id": "us"}]
    assert len({payload_hash(request_usage()._replace(**text)) for text in texts}) == len(texts)


def test_events_of_two_types_are_two_payloads():
    assert len({payload_hash(event) for event in EVENTS}) == len(EVENTS)


def test_values_never_run_together_with_their_neighbours():
    one = node_call(user_id="a", team_id="b")
    hashes = {payload_hash(one._replace(user_id=u, team_id=t)) for u, t in (("a", "b"), ("ab", ""), ('a", "b', None))}
    assert len(hashes) == 3
    assert payload_hash(one._replace(team_id=None)) != payload_hash(one._replace(team_id="null"))


# --- frozen: what is booked under these must be found again for ever --------------------------------------------------

_COMMON: dict[str, Any] = {
    "org_id": "Übergröße GmbH",
    "source": "runner/1",
    "id": "event-1",
    "occurred_at": datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC),
}
FROZEN = {
    "node call": (
        node_call(**_COMMON, model="gpt-5", team_id="team-1", run_id="run-1", calls=3, claim=Claim("key-1")),
        "eb2c2628828204119872751b64420ec90b35822939f4572a03239f78221aa755",
    ),
    "the least node call": (
        node_call(**_COMMON, model="gpt-5"),
        "789d15479d09f0f4693cda7c449097927ee401cf1396398ecc8a104312230cfa",
    ),
    "token usage": (
        token_usage(
            **_COMMON,
            provider="anthropic",
            model="claude-sonnet-4-6",
            input_tokens=10**10,
            cached_input_tokens=400,
            output_tokens=30,
            claim=PLATFORM_CLAIM,
        ),
        "970e58a5bb0afee3dc74c8aaf9133899ddcb5ab5af42d3296036a4799b65a71c",
    ),
    "tool call": (
        tool_call(**_COMMON, tool="web_scrape", calls=2, succeeded=False),
        "7d80d5312e6934b17b964020e3b6a176c5bfc92fa3b4a6a8c0624636929b39a8",
    ),
    "workflow run": (
        workflow_run(**_COMMON, parent_run_id="run-0"),
        "d6295a03cf0409c2848cc4919759d6da1c0e02e5dccfc1d38ed9bb4c6ac1a283",
    ),
}
FROZEN_BY_UNIT = {
    "all that can be said": (
        request_usage(
            {"input": 10**10, "cache_read": 400, "output": 30, "web_search": 0},
            {"region": "us", "processing": "batch"},
            **_COMMON,
            provider="anthropic",
            model="claude-sonnet-4-6",
            team_id="team-1",
            run_id="run-1",
            is_partial=True,
            provider_request_id="req-1",
            provider_cost_usd="0.0125",
            claim=Claim("key-1"),
        ),
        "fa4d7f6c58c9552af079b98f4ab0ad6ab7ccd6e1551bccec2970db926fe8fcda",
    ),
    "the least": (
        request_usage({"input": 1}, **_COMMON, claim=PLATFORM_CLAIM),
        "37f27ab1fd21d632f4538118a01f3d46e0fbac2b963275165e34336e9a657662",
    ),
}
FROZEN_IDS = {
    (0, EntryKind.CHARGE): "498d182e-a555-8f3c-9ba6-7b34e7f4d4f1",
    (1, EntryKind.REVERSAL): "a96536a7-bb94-853c-b757-f7d7fc90ef75",
    (1, EntryKind.CORRECTION): "5f13e70d-eb43-8f1b-8e3f-5335517bb927",
}


@pytest.mark.parametrize("name", FROZEN)
def test_a_payload_hash_of_a_v1_event_never_changes(name):
    event, digest = FROZEN[name]
    assert payload_hash(event).hex() == digest


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("place", [0, 5, len(UsageEvent.__struct_fields__) - 1, len(UsageEvent.__struct_fields__)])
def test_one_more_optional_field_moves_no_hash_of_a_v1_event(name, place):
    """As a later release may add it, at any place among the others; absent, and there."""
    event, digest = FROZEN[name]
    named: Any = namedtuple  # of names that only this test knows
    later = named(
        "later", [*UsageEvent.__struct_fields__[:place], "later_field", *UsageEvent.__struct_fields__[place:]]
    )
    for value in (None, "something"):
        assert payload_hash(later(**event._asdict(), later_field=value)).hex() == digest


@pytest.mark.parametrize("name", FROZEN_BY_UNIT)
def test_a_payload_hash_of_usage_by_unit_never_changes(name):
    event, digest = FROZEN_BY_UNIT[name]
    assert payload_hash(event).hex() == digest


@pytest.mark.parametrize(("revision", "kind"), FROZEN_IDS)
def test_an_entry_id_never_changes(revision, kind):
    identity = Identity(_COMMON["org_id"], _COMMON["source"], _COMMON["id"])
    assert str(entry_id(identity, revision, kind)) == FROZEN_IDS[revision, kind]
