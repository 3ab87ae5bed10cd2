"""What own keys would have saved, by HTTP: against the rating of every single entry with such a key."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from services.domain.directory import Directory
from services.domain.rating import rate
from services.domain.usage import EventType, UsageEvent
from services.key_registry.rate_cards import packaged_cards
from services.messages.registry_changes import read_change, to_change
from tests.integration.ledger.ledger_seed import Books, at

WHAT_IF = "/v1/organizations/acme/what-if"
PROVIDERS = {"openai": "gpt-4.1", "anthropic": "claude-sonnet-4-6"}
LEVEL = {"organization": lambda event: event.org_id, "team": lambda event: event.team_id}


@pytest.fixture
def used(company):
    """Use of the platform's keys under two cards, of two kinds, with one key that became known late."""
    people = (("ann", None), ("bob", "red"), ("bob", "blue"), ("cid", None))
    for number in range(60):
        provider = ("openai", "anthropic")[number % 2]
        user, team = people[number % len(people)]
        who = {"provider": provider, "model": PROVIDERS[provider], "user_id": user, "team_id": team}
        company.book(f"n{number}", occurred_at=at(days=number), calls=number % 5 + 1, **who)
        company.book(
            f"t{number}",
            type=EventType.TOKEN_USAGE,
            agent_id="a",
            occurred_at=at(days=number, seconds=1),
            input_tokens=number * 7919 + 1,
            cached_input_tokens=number * 101,
            output_tokens=number * 313 + 7,
            **who,
        )
    company.place()
    return company


def billed_to_the_platform(books: Books) -> list[tuple[UsageEvent, int]]:
    """The events of acme that are booked so in the end, each with what was charged."""
    names = (
        "org_id, event_source, event_id, event_type, occurred_at, user_id, team_id, provider, model, node, agent_id,"
        " quantity, input_tokens, cached_input_tokens, output_tokens, charged_mc"
    )
    rows = books.connection.execute(
        f"SELECT {names} FROM ledger.entries AS e WHERE org_id = 'acme' AND key_source = 'platform'"
        " AND kind <> 'reversal' AND NOT EXISTS (SELECT FROM ledger.entries AS r WHERE r.adjusts = e.entry_id"
        " AND r.kind = 'reversal')"
    ).fetchall()
    found = []
    for row in rows:
        org, source, id_, kind, when, user, team, provider, model, node, agent, quantity, fresh, cached, out, mc = row
        tokens: dict[str, Any] = {"input_tokens": fresh, "cached_input_tokens": cached, "output_tokens": out}
        used: dict[str, Any] = {name: count for name, count in tokens.items() if count is not None}
        if kind == EventType.NODE_CALL:
            used["calls"] = quantity
        event = UsageEvent(
            org, source, id_, EventType(kind), when, user, team,
            provider=provider, model=model, node=node, agent_id=agent, **used,
        )  # fmt: skip
        found.append((event, int(mc)))
    return found


def with_a_key(provider: str) -> Directory:
    """What the registry would have said with a key of the organization."""
    directory = Directory()
    start = "2026-04-27T00:00:00Z"
    changes: list[dict[str, Any]] = [
        {"kind": "rate_card", "card": card.card, "effective_from": card.effective_from.isoformat(), "body": card.body}
        for card in packaged_cards()
    ]
    active = [{"from": start, "to": None}]
    scope = {"type": "organization", "id": "acme"}
    changes.append({"kind": "plan", "org_id": "acme", "plans": [{"plan": "enterprise", **active[0]}]})
    changes.append(
        {"kind": "credential", "credential_id": "k", "org_id": "acme", "scope": scope, "provider": provider,
         "hint": "…abcd", "active": active}
    )  # fmt: skip
    for seq, change in enumerate(changes, start=1):
        message = read_change(_wire(change | {"seq": seq, "changed_at": start}))
        directory.apply(seq, to_change(message))
    return directory


def _wire(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def test_it_is_what_every_entry_alone_comes_to_with_a_key(client, used, reader):
    answer = client.get(WHAT_IF, headers=reader).json()
    rates = {provider: with_a_key(provider) for provider in PROVIDERS}
    charged, own, events = defaultdict(int), defaultdict(int), defaultdict(int)
    for event, mc in billed_to_the_platform(used):
        alone = rate(event, rates[event.provider]).amounts.charged_mc
        for level, owner in LEVEL.items():
            if (id_ := owner(event)) is not None:
                key = (event.provider, level, id_)
                charged[key] += mc
                own[key] += alone
                events[key] += 1
    told = {(one["provider"], one["scope"]["type"], one["scope"]["id"]): one for one in answer["options"]}
    assert told.keys() == charged.keys()
    assert (
        answer["position"] == used.connection.execute("SELECT max(position) FROM ledger.entry_position").fetchone()[0]
    )
    for key, option in told.items():
        assert (option["events"], option["charged_mc"]) == (events[key], charged[key])
        assert abs(option["own_key_mc"] - own[key]) <= option["within_mc"] <= 3 * events[key]
        assert option["would_save_mc"] == option["charged_mc"] - option["own_key_mc"] > 0
        assert sum(option["by_reason"].values()) == option["would_save_mc"]
    savings = [option["would_save_mc"] for option in answer["options"]]
    assert savings == sorted(savings, reverse=True)


def test_node_calls_are_exact(client, company, reader):
    company.book("n", user_id="cid", occurred_at=at(days=20), calls=7)
    company.place()
    query = {"from": "2026-05-21T00:00:00Z", "to": "2026-05-22T00:00:00Z", "provider": "openai"}
    (option,) = client.get(WHAT_IF, params=query, headers=reader).json()["options"]
    assert option["would_save_mc"] == 7 * (20 - 1) * 1_000_000
    assert (option["charged_mc"], option["within_mc"]) == (140_000_000, 0)
    assert option["by_reason"] == {"no_credential": 133_000_000}
    query["provider"] = "anthropic"
    assert client.get(WHAT_IF, params=query, headers=reader).json()["options"] == []


def test_everybody_is_told_of_their_own_levels_alone(client, used, bearer):
    def levels(*who, **claims):
        options = client.get(WHAT_IF, headers=bearer(*who, **claims)).json()["options"]
        return {(option["scope"]["type"], option["scope"]["id"]) for option in options}

    member = {"org_id": "acme", "org_role": "member"}
    assert levels("cid", **member) == {("personal", "cid")}
    assert levels("bob", **member, teams={"blue": "member"}) == {("personal", "bob"), ("team", "blue")}
    everything = {("organization", "acme"), ("team", "red"), ("team", "blue")}
    assert levels("ann", org_id="acme", org_role="admin") - {("personal", "ann")} == everything
    assert client.get(WHAT_IF, headers=bearer("svc")).status_code == 403
    assert client.get(WHAT_IF, headers=bearer("x", org_id="other", org_role="admin")).status_code == 403
