"""A clock that was set back: what was leased is what is charged, or nothing is leased and nothing changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import Response

from services.domain.directory import Directory, directory_of
from services.domain.entries import charge
from services.domain.permissions import Caller
from services.domain.rating import rate
from services.domain.resolution import Use
from services.domain.usage import Claim
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.keys import lease_key
from services.key_registry.handlers.registry import Registry
from services.key_registry.metrics import registry_metrics
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.rules import clock
from services.key_registry.sweeper import sweep
from services.messages.registry_changes import read_change, to_change
from tests.factories import node_call
from tests.integration.key_registry.registry_caller import Api, path_of, refused, shown

RUNNER = Caller("runner", "*", None, {}, frozenset({"credentials:lease"}))
AHEAD = "UPDATE registry.log_head SET last_at = clock_timestamp() + %s RETURNING last_at"
# As docs/runbook.md says it for a log that is ahead by more than one can wait for.
RESET = (
    "WITH audit AS (UPDATE registry.audit_head SET last_at = clock_timestamp())"
    " UPDATE registry.log_head SET last_at = clock_timestamp() RETURNING 1"
)


@pytest.fixture
def ahead(database: Any) -> Iterator[Callable[..., Any]]:
    """Puts the end of the log ahead of the clock, as a clock that was set back leaves it."""
    yield lambda **by: database.rows(AHEAD, timedelta(**by))
    database.rows(RESET)


def known(database: Any) -> Directory:
    """What metering makes of the log as it is sent."""
    rows = database.rows("SELECT seq, payload FROM registry.log ORDER BY seq")
    return directory_of((seq, to_change(read_change(payload))) for seq, payload in rows)


def charged_mc(database: Any, api: Api, at: datetime, claim: Claim | None = None) -> int:
    """What one call of an advanced model at ``at`` costs, as metering books it: 20 credits, with an own key 1."""
    event = node_call(
        org_id=api.org,
        user_id="uma",
        team_id=None,
        provider="openai",
        model="gpt-5",
        occurred_at=at,
        claim=claim,
    )
    directory = known(database)
    return charge(event, rate(event, directory), directory.seq).attribution.amounts.charged_mc


def gauge(registry: Registry, name: str) -> float:
    """What the metric says; of metrics of their own, since those of an application may be a second old."""
    found = registry_metrics(registry.sessions).get_sample_value(name)
    assert found is not None
    return found


def count_of(database: Any) -> tuple[int, int]:
    (row,) = database.rows("SELECT (SELECT count(*) FROM registry.log), (SELECT count(*) FROM registry.audit)")
    return row[0], row[1]


def test_with_the_log_an_hour_ahead_nothing_is_changed_and_nothing_leased(
    enterprise: Api, database: Any, registry: Registry, ahead: Callable[..., Any]
) -> None:
    api = enterprise
    key = api.add(api.admin, "team", "t").json()
    ahead(hours=1)
    before = count_of(database)
    rotation = {"api_key": "sk-another-one-of-this-test"}
    tries: list[Callable[[], Response]] = [
        lambda: api.add(api.platform, "personal", "uma", org_id=api.org),
        lambda: api.add(api.platform, "personal", "uma", org_id=api.org, effective_from="2026-05-01T00:00:00Z"),
        lambda: api.plan("pro"),
        lambda: api.client.patch(path_of(key), json={"enabled": False}, headers=api.admin),
        lambda: api.client.delete(path_of(key), headers=api.admin),
        lambda: api.client.post(f"{path_of(key)}/rotate", json=rotation, headers=api.admin),
        lambda: api.client.post(f"{path_of(key)}/rotate/undo", headers=api.admin),
        lambda: api.ask("lease", team_id="t"),
        lambda: api.ask("resolve", team_id="t"),
    ]
    for attempt in tries:
        response = attempt()
        problem = refused(response, 503, "clock_behind_log")
        assert "s ahead of its database's clock" in problem["detail"]
        assert 0 < int(response.headers["retry-after"]) <= 3600
    # An outage is no decision about the caller: the audit log says nothing of it.
    assert count_of(database) == before
    assert gauge(registry, "byok_registry_log_ahead_seconds") == pytest.approx(3600, abs=60)


def test_with_the_log_an_hour_ahead_everything_can_be_looked_at(
    enterprise: Api, database: Any, registry: Registry, ahead: Callable[..., Any]
) -> None:
    api = enterprise
    key = api.add(api.admin, "team", "t").json()
    ahead(hours=1)
    assert shown(api, key)["status"] == "active"
    assert api.client.get("/v1/providers", headers=api.admin).status_code == 200
    plan = api.client.get(f"/v1/organizations/{api.org}/plan", headers=api.admin).json()
    assert plan["plan"] == "enterprise"
    assert api.client.get("/v1/audit", params={"org_id": api.org}, headers=api.admin).status_code == 200
    asked = api.ask("resolve", team_id="t", at=datetime.now(UTC).isoformat())
    assert (asked.status_code, asked.json()["credential_id"]) == (200, key["credential_id"])
    sweep(registry.sessions)
    # Cards say themselves from when they count, also ahead of time: a service can start, and prices can be published.
    document = packaged_cards()[0]
    assert publish_rate_card(registry.sessions, document) is False
    later = document._replace(card="of-2031", effective_from=datetime(2031, 1, 1, tzinfo=UTC))
    assert publish_rate_card(registry.sessions, later) is True
    last = "SELECT last_seq, last_at FROM registry.log_head"
    assert database.rows("SELECT seq, changed_at FROM registry.log ORDER BY seq DESC LIMIT 1") == database.rows(last)


def test_a_small_difference_is_waited_out_and_what_is_leased_is_charged(
    api: Api, database: Any, ahead: Callable[..., Any]
) -> None:
    ahead(milliseconds=400)
    assert api.plan("pro").status_code == 200
    ahead(milliseconds=400)
    key = api.add(api.platform, "personal", "uma", org_id=api.org).json()
    ((lease_due,),) = ahead(milliseconds=400)
    lease = api.ask("lease").json()
    used = datetime.now(UTC)
    assert lease["credential_id"] == key["credential_id"]
    leased = datetime.fromisoformat(lease["at"])
    assert lease_due <= leased <= used
    for at in (leased, used):
        assert charged_mc(database, api, at) == charged_mc(database, api, at, Claim(key["credential_id"])) == 1_000_000


def test_changes_are_not_dated_ahead_of_the_clock(enterprise: Api, database: Any, ahead: Callable[..., Any]) -> None:
    api = enterprise
    for _ in range(3):
        ((due,),) = ahead(milliseconds=100)
        key = api.add(api.admin, "team", "t").json()
        started = datetime.fromisoformat(shown(api, key)["active"][0]["from"])
        assert due < started <= datetime.now(UTC)
        ((due,),) = ahead(milliseconds=100)
        assert api.client.delete(path_of(key), headers=api.admin).status_code == 204
        ended = datetime.fromisoformat(shown(api, key)["active"][0]["to"])
        assert due < ended <= datetime.now(UTC)
    written = database.rows("SELECT changed_at FROM registry.log ORDER BY seq DESC LIMIT 6")
    assert written == sorted(written, reverse=True)


def test_it_is_not_waited_for_more_than_the_bound(
    api: Api, ahead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead(seconds=clock.WAIT_MAX.total_seconds() + 5)

    def never(_seconds: float) -> None:
        raise AssertionError("waited for what would take too long")

    monkeypatch.setattr(time, "sleep", never)
    refused(api.plan("pro"), 503, "clock_behind_log")


def test_no_change_is_dated_before_a_lease_that_was_given(api: Api, database: Any, registry: Registry) -> None:
    assert api.plan("pro").status_code == 200
    key = api.add(api.platform, "personal", "uma", org_id=api.org).json()
    # Changes were long ago, a lease was given a moment ago; then the clock is set back.
    leased = datetime.now(UTC)
    assert api.ask("lease").json()["credential_id"] == key["credential_id"]
    database.rows("UPDATE registry.audit_head SET last_at = clock_timestamp() + interval '1 hour' RETURNING 1")
    refused(api.plan("free"), 503, "clock_behind_log")
    refused(api.client.delete(path_of(key), headers=api.platform), 503, "clock_behind_log")
    assert gauge(registry, "byok_registry_log_ahead_seconds") == pytest.approx(3600, abs=60)
    # A lease takes back nothing.
    assert api.ask("lease").json()["credential_id"] == key["credential_id"]
    database.rows(RESET)
    assert api.plan("free").status_code == 200
    assert charged_mc(database, api, leased, Claim(key["credential_id"])) == 1_000_000
    assert charged_mc(database, api, datetime.now(UTC), Claim(key["credential_id"])) == 20_000_000


def test_the_clocks_of_two_instances_decide_nothing(
    api: Api, database: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance adds, and one whose clock is an hour behind leases at once."""
    assert api.plan("pro").status_code == 200
    key = api.add(api.platform, "personal", "uma", org_id=api.org).json()
    right = time.time
    with monkeypatch.context() as behind:
        behind.setattr(time, "time", lambda: right() - 3600)
        assert gauge(registry, "byok_registry_clock_difference_seconds") == pytest.approx(3600, abs=60)
    assert gauge(registry, "byok_registry_clock_difference_seconds") == pytest.approx(0, abs=1)
    use = Use(api.org, None, "uma", "openai", datetime.now(UTC) - timedelta(hours=1))
    lease = lease_key(registry, RUNNER, use).result()
    assert lease.answer.resolution.credential is not None
    assert lease.answer.resolution.credential.credential_id == key["credential_id"]
    assert charged_mc(database, api, lease.answer.use.at) == 1_000_000


def test_a_backdated_key_and_plan_count_from_their_own_time(api: Api, database: Any, ahead: Callable[..., Any]) -> None:
    start = "2026-11-02T00:00:00Z"
    ahead(milliseconds=200)
    assert api.plan("pro", effective_from=start).status_code == 200
    assert api.add(api.platform, "personal", "uma", org_id=api.org, effective_from=start).status_code == 201
    assert charged_mc(database, api, datetime(2026, 11, 3, tzinfo=UTC)) == 1_000_000
    assert charged_mc(database, api, datetime(2026, 11, 1, tzinfo=UTC)) == 20_000_000


def test_an_operator_can_set_back_a_log_that_a_wrong_clock_put_far_ahead(enterprise: Api, database: Any) -> None:
    api = enterprise
    key = api.add(api.admin, "team", "t").json()
    # As changes were dated that were made while the clock was a year ahead.
    database.rows(
        "UPDATE registry.credential_interval SET active_from = active_from + interval '1 year'"
        " WHERE credential_id = %s RETURNING 1",
        key["credential_id"],
    )
    database.rows(AHEAD, timedelta(days=365))
    refused(api.add(api.platform, "personal", "uma", org_id=api.org), 503, "clock_behind_log")
    database.rows(RESET)
    assert api.ask("lease", team_id="t").json()["reason"] == "no_credential"
    assert api.client.delete(path_of(key), headers=api.admin).status_code == 204
    (ended,) = shown(api, key)["active"]
    assert ended["from"] == ended["to"]
    anew = api.add(api.admin, "team", "t").json()
    assert api.ask("lease", team_id="t").json()["credential_id"] == anew["credential_id"]
