"""The messages of the registry log: exactly what the contract says, and of a key the hint alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.directory import Credential, PlanHistory
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.key_registry.database.plan_periods import periods_from_json, periods_to_json
from services.key_registry.database.schema import REGISTRY
from services.key_registry.log.changes import (
    credential_change,
    hint,
    plan_change,
    rate_card_change,
)
from services.key_registry.rate_cards import packaged_cards

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 6, 1, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("key", "shown"),
    [("k" * 12 + "abcd", "…abcd"), ("k" * 11 + "abcd", "…"), ("sk-ant-api03-abcdefgh", "…efgh"), ("12345678", "…")],
)
def test_a_hint_shows_four_characters_of_a_long_key_only(key: str, shown: str) -> None:
    assert hint(key) == shown


def test_a_credential_change_is_compact_json_in_utc() -> None:
    key = Credential("c-1", "acme", Scope(ScopeType.TEAM, "growth"), "openai", (Interval(NOON, LATER),))
    message = credential_change(42, NOON, key, "…abcd")
    assert message.key == "credential:c-1"
    assert message.model_dump_json() == (
        '{"seq":42,"kind":"credential","changed_at":"2026-05-01T12:00:00Z","credential_id":"c-1","org_id":"acme",'
        '"scope":{"type":"team","id":"growth"},"provider":"openai","hint":"…abcd",'
        '"active":[{"from":"2026-05-01T12:00:00Z","to":"2026-06-01T12:00:00.000005Z"}]}'
    )


def test_a_plan_change_holds_the_whole_history() -> None:
    history = PlanHistory(
        "acme", (PlanPeriod(Plan.PRO, Interval(NOON, LATER)), PlanPeriod(Plan.FREE, Interval(LATER, None)))
    )
    message = plan_change(43, NOON, history)
    assert message.key == "plan:acme"
    assert json.loads(message.model_dump_json())["plans"] == [
        {"plan": "pro", "from": "2026-05-01T12:00:00Z", "to": "2026-06-01T12:00:00.000005Z"},
        {"plan": "free", "from": "2026-06-01T12:00:00.000005Z", "to": None},
    ]


def test_a_rate_card_change_holds_the_card_as_it_was_written() -> None:
    card = packaged_cards()[0]
    message = rate_card_change(1, NOON, card)
    document = json.loads(message.model_dump_json())
    assert (message.key, document["effective_from"]) == ("rate_card:2026-04-27", "2026-04-27T00:00:00Z")
    assert document["body"] == card.body


TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it adds the zone
PERIODS = st.builds(PlanPeriod, st.sampled_from(Plan), st.builds(Interval, TIMES, st.none() | TIMES))


@given(st.lists(PERIODS, max_size=5))
def test_a_plan_history_is_stored_without_loss(periods: list[PlanPeriod]) -> None:
    stored = json.loads(json.dumps(periods_to_json(periods)))
    assert periods_from_json(stored) == tuple(periods)


def test_revisions_are_numbered() -> None:
    assert REGISTRY.newest.isdigit()
