"""A runner that follows what changes: it hears at once that its lease is stale, and says how a key fared."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.e2e.one_stack.test_customer_commands import byok
from tests.e2e.running import Stack
from tests.patience import PATIENCE_SECONDS, wait_for

HEARD_SECONDS = 20
"""On a slow machine; else at once. Who is not woken hears of it at the end of its wait, after 30 s."""


class Runner:
    """What a runner does beside its work."""

    def __init__(self, http: httpx.Client, threads: ThreadPoolExecutor) -> None:
        self.http, self._threads = http, threads

    def changes(self, **query: int) -> dict[str, Any]:
        """What it hears."""
        answer = self.http.get("/v1/changes", params=query)
        assert answer.status_code == 200, answer.text
        heard: dict[str, Any] = answer.json()
        return heard

    def waiting(self, after: int) -> Future[dict[str, Any]]:
        """It waits, as long as one may."""
        return self._threads.submit(self.changes, after=after, wait=30)

    def lease(self, org_id: str) -> dict[str, Any]:
        """A lease for somebody in the team core."""
        use = {"org_id": org_id, "user_id": "ada", "team_id": "core", "provider": "anthropic"}
        leased: dict[str, Any] = self.http.post("/v1/lease", json=use).raise_for_status().json()
        return leased


@pytest.fixture
def runner(stack: Stack) -> Iterator[Runner]:
    headers = {"Authorization": f"Bearer {stack.told['tokens']['runner']}"}
    with (
        httpx.Client(base_url=stack.told["registry_url"], headers=headers, timeout=PATIENCE_SECONDS) as http,
        ThreadPoolExecutor(2) as threads,
    ):
        yield Runner(http, threads)


def heard(waiting: Future[dict[str, Any]]) -> dict[str, Any]:
    wait_for("the runner to hear of it", waiting.done, HEARD_SECONDS)
    (change,) = waiting.result()["changes"]
    assert isinstance(change, dict)
    return change


def test_a_key_that_is_disabled_is_dropped_by_the_runner_that_leased_it(stack: Stack, runner: Runner) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "team", "core", "anthropic")
    place = f"/v1/credentials/{credential_id}"
    begun = runner.changes()["next_after"]
    leased = runner.lease(org_id)
    assert leased["credential_id"] == credential_id
    waiting = runner.waiting(begun)
    stack.registry.patch(place, json={"enabled": False}).raise_for_status()
    change = heard(waiting)
    assert (change["kind"], change["credential_id"]) == ("credential", credential_id)
    assert change["active"][-1]["to"] is not None
    assert leased["secret"] not in str(change)
    assert runner.lease(org_id)["source"] == "platform"
    # A rotation and a plan, too.
    stack.registry.patch(place, json={"enabled": True}).raise_for_status()
    waiting = runner.waiting(runner.changes()["next_after"])
    stack.registry.post(f"{place}/rotate", json={"api_key": "sk-test-another-key-9876"}).raise_for_status()
    assert heard(waiting)["hint"] == "…9876"
    waiting = runner.waiting(waiting.result()["next_after"])
    stack.set_plan(org_id, "free")
    assert heard(waiting)["plans"][-1]["plan"] == "free"


def test_what_became_of_a_key_is_shown_to_whoever_manages_it(stack: Stack, runner: Runner) -> None:
    org_id = stack.new_organization("pro")
    place = f"/v1/credentials/{stack.add_key(org_id, 'team', 'core', 'anthropic')}"
    leased = runner.lease(org_id)
    at = datetime.now(UTC).isoformat()
    report = {"outcome": "rejected", "at": at, "leased_at": leased["at"], "detail": f"no such key: {leased['secret']}"}
    answer = runner.http.post(f"{place}/reports", json=report)
    assert (answer.status_code, answer.json()["kept"]) == (200, True)
    health = stack.registry.get(place).json()["health"]
    assert (health["outcome"], health["detail"]) == ("rejected", "no such key: [masked key]")
    printed = byok(stack, "credentials", "show", place.rpartition("/")[2]).stdout
    assert "health" in printed
    assert "rejected" in printed
    page = httpx.get(f"{stack.told['registry_url']}/metrics", timeout=PATIENCE_SECONDS).text
    assert 'byok_key_reports_total{outcome="rejected",provider="anthropic"}' in page
