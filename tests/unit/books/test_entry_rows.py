"""An entry becomes a row, and the row the same entry again."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import given

from services.books.columns import BOOKED, COUNTS, PLACE, PRICE, SERVED, USAGE
from services.books.entry_rows import (
    NULL,
    attribution_columns,
    copy_text,
    entry_line,
    entry_of,
    event_columns,
    event_of,
)
from services.domain.directory import ModelAliases
from services.domain.entries import charge, reprice
from services.domain.rating import Amounts, rate
from services.domain.usage import Claim, payload_hash
from tests.factories import (
    START,
    card_2,
    credential,
    directory,
    node_call,
    plan,
    request_usage,
    token_usage,
    tool_call,
    workflow_run,
)
from tests.strategies import events

# A card of schema 1 prices no conditions.
PRICED = events().filter(lambda event: event.occurred_at >= START and not event.conditions)
ALIASES = ModelAliases("openai", {"s": "small"})
KNOWN = directory(ALIASES, plan(), credential("my-key"), credential("org-key", "organization"))


def booked(event):
    return charge(event, rate(event, KNOWN), 5)


def row_of(entry):
    """The row that PostgreSQL makes of the entry's line, but for its place."""
    (line,) = copy_text([entry_line(entry, b"h" * 32, 7, 8, 9)]).decode().splitlines()
    values = dict(zip((*BOOKED, *PLACE), line.split("\t"), strict=True))
    assert [values.pop(name) for name in PLACE] == ["7", "8", "9"]
    return {name: None if value == NULL else read_as(name, value) for name, value in values.items()}


def read_as(name, value):
    if name in {"entry_id", "adjusts"}:
        return UUID(value)
    if name in {"revision", "registry_seq", *COUNTS, *PRICE}:
        return int(value)
    if name in {*SERVED, USAGE}:
        return json.loads(value.replace("\\\\", "\\"))
    as_others = {
        "occurred_at": datetime.fromisoformat,
        "succeeded": {"True": True, "False": False}.__getitem__,
        "flags": lambda flags: [flag for flag in flags.strip("{}").split(",") if flag],
        "payload_hash": lambda digits: bytes.fromhex(digits.removeprefix("\\\\x")),
    }
    return as_others.get(name, lambda text: text.replace("\\\\", "\\"))(value)


@given(PRICED)
def test_every_charge_comes_back_as_it_was(event):
    entry = booked(event)
    stored = entry_of(row_of(entry))
    assert stored == entry
    # So the event can be priced again from its row, and told from a conflict.
    assert payload_hash(stored.event) == payload_hash(event)
    assert rate(stored.event, KNOWN) == rate(event, KNOWN)


def test_what_was_served_and_said_besides_comes_back():
    usage = {"input": 9, "cache_read": 4, "output": 2, "web_search": 1}
    said = {"is_partial": True, "provider_request_id": "req-1", "provider_cost_usd": "0.5"}
    event = request_usage(usage, {"processing": "batch"}, model="large", **said)
    entry = charge(event, rate(event, directory(cards=(card_2(),))), 5)
    assert entry_of(row_of(entry)) == entry
    row = row_of(entry)
    assert row["usage"] == usage
    assert row["evidence"] == {"usage_status": "partial", "provider_request_id": "req-1", "provider_cost_usd": "0.5"}


@given(PRICED)
def test_every_correction_comes_back_as_it_was(event):
    later = directory(ALIASES, plan("pro"), credential("team-key", "team"))
    pair = reprice(booked(event), rate(event, later), 9)
    if pair is not None:
        assert entry_of(row_of(pair[1])) == pair[1]


@given(PRICED)
def test_what_a_row_says_of_event_and_attribution_can_be_had_alone(event):
    entry, row = booked(event), row_of(booked(event))
    saved = {"saved_mc": row["list_mc"] - row["charged_mc"]}
    for said in (event_columns(event), attribution_columns(entry.attribution)):
        assert said.items() <= (row | saved).items()


@given(PRICED)
def test_the_event_is_read_of_its_reversal_too(event):
    pair = reprice(booked(event), rate(event, directory(ALIASES, plan("pro"), credential("team-key", "team"))), 9)
    if pair is not None:
        assert event_of(row_of(pair[0])) == event


def test_a_row_says_all_that_the_view_shows():
    event = token_usage(
        model="large", team_id="team-1", run_id="run-1", input_tokens=100, cached_input_tokens=40, output_tokens=10
    )
    row = row_of(booked(event._replace(claim=Claim("my-key"))))
    assert {name: row[name] for name in row if row[name] is not None} == {
        "entry_id": booked(event).entry_id,
        "kind": "charge",
        "revision": 0,
        "registry_seq": 5,
        "org_id": "org-1",
        "event_source": "runner",
        "event_id": "event-1",
        "event_type": "usage.token_usage.v1",
        "occurred_at": event.occurred_at,
        "user_id": "user-1",
        "team_id": "team-1",
        "run_id": "run-1",
        "agent_id": "agent-1",
        "provider": "openai",
        "model": "large",
        "succeeded": True,
        "claim_source": "byok",
        "claim_credential_id": "my-key",
        "quantity": 110,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 10,
        "key_source": "byok",
        "byok_scope": "personal",
        "credential_id": "my-key",
        "reason": "claimed_key",
        "flags": ["organization_key_bypassed"],
        "rate_card": "card-1",
        "tier": "expert",
        # 60 at 15, 40 at 7.5 and 10 at 60 USD per million: 0.0018 USD = 0.36 credits.
        "list_mc": 360_000,
        "charged_mc": 180_000,
        "payload_hash": b"h" * 32,
    }


def test_a_reversal_is_a_row_of_negative_amounts():
    entry = booked(node_call(calls=2))
    reversal, _ = reprice(entry, rate(entry.event, directory()), 9)
    row = row_of(reversal)
    assert (row["kind"], row["revision"], row["adjusts"]) == ("reversal", 1, entry.entry_id)
    assert (row["quantity"], row["list_mc"], row["charged_mc"]) == (-2, -4_000_000, -2_000_000)


@pytest.mark.parametrize(
    ("claim", "columns"),
    [(None, (None, None)), (Claim(None), ("platform", None)), (Claim("my-key"), ("byok", "my-key"))],
)
def test_a_claim_is_told_from_none(claim, columns):
    row = row_of(booked(node_call(claim=claim)))
    assert (row["claim_source"], row["claim_credential_id"]) == columns


@pytest.mark.parametrize("event", [tool_call(calls=3, succeeded=False), workflow_run(parent_run_id="run-0")])
def test_what_decides_a_free_act_is_kept(event):
    stored = entry_of(row_of(booked(event)))
    assert stored.event == event
    assert stored.attribution.amounts == Amounts(0, 0)
