"""A runner with the SDK on a running stack: what it leases, records and sends is what the ledger books."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from byok_sdk import AsyncMeter, Counts, Meter, NoOwnKeyError, RegistryAwayError, Settings

from tests.e2e.one_stack.test_runner_hears import HEARD_SECONDS
from tests.e2e.running import Stack
from tests.faults.proxy import Proxy
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.sdk.recorded_answers import ANTHROPIC_STREAM

MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "model": "claude-sonnet-4-6",
    "usage": {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 900,
        "output_tokens": 50,
        "service_tier": "standard",
    },
}


@pytest.fixture
def new_meter(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Meter]]:
    """Meters of a runner, each as of a process of its own."""
    made: list[Meter] = []
    numbers = itertools.count()

    def make(**changes: Any) -> Meter:
        settings: dict[str, Any] = {
            "registry_url": stack.told["registry_url"],
            "ledger_url": stack.told["ledger_url"],
            "token": stack.told["tokens"]["runner"],
            "spool_dir": tmp_path / f"spool-{next(numbers)}",
        }
        made.append(Meter(Settings(**settings | changes)))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


def leases_of(stack: Stack, org_id: str, credential_id: str) -> int:
    """How often the registry gave out the key, by its audit log."""
    items = stack.registry.get("/v1/audit", params={"org_id": org_id}).json()["items"]
    return [each["credential_id"] for each in items if each["action"] == "key.lease"].count(credential_id)


def test_what_a_runner_records_is_booked_once_with_the_key_it_leased(
    stack: Stack, new_meter: Callable[..., Meter]
) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "team", "core", "anthropic")
    meter = new_meter()
    for _ in range(2):  # The run is carried out twice, as a durable workflow may; the second time is the same acts.
        with meter.run(org=org_id, user="ada", team="core", run_id="r42") as run:
            lease = run.key("anthropic")
            assert lease.secret is not None
            assert lease.secret.startswith("sk-test-")
            with run.act("plan", agent="planner") as act:
                act.record(MESSAGE, lease)
            run.tool("web-search", calls=2)
            run.workflow("weekly-report")
            run.node("ask_ai", provider="anthropic", model="claude-sonnet-4-6", lease=lease)
        assert meter.flush(PATIENCE_SECONDS)
    entries = stack.entries(org_id, 4)
    assert len(entries) == 4
    agent = next(entry for entry in entries if entry["event_type"] == "usage.token_usage.v2")
    assert (agent["run_id"], agent["agent_id"], agent["team_id"]) == ("r42", "planner", "core")
    assert (agent["key_source"], agent["credential_id"], agent["reason"]) == ("byok", credential_id, "claimed_key")
    assert (agent["input_tokens"], agent["cached_input_tokens"], agent["output_tokens"]) == (1_000, 900, 50)
    assert agent["conditions"] == {"service_tier": "standard"}
    assert {entry["credential_id"] for entry in entries} == {credential_id, None}
    counts = meter.counts()
    assert counts == Counts(accepted=8, acknowledged=8)


def test_a_lease_is_asked_for_once_and_dropped_when_its_key_is_disabled(
    stack: Stack, new_meter: Callable[..., Meter]
) -> None:
    org_id = stack.new_organization("pro")
    place = f"/v1/credentials/{stack.add_key(org_id, 'personal', 'ada', 'openai')}"
    run = new_meter().run(org=org_id, user="ada")
    with ThreadPoolExecutor(20) as threads:
        lease, *others = threads.map(lambda _: run.key("openai"), range(20))
    assert all(other is lease for other in others)
    assert leases_of(stack, org_id, place.rpartition("/")[2]) == 1
    stack.registry.patch(place, json={"enabled": False}).raise_for_status()
    # At once, though the lease would have been good for a minute.
    wait_for(
        "the lease to be dropped", lambda: run.key("openai", otherwise="platform").source == "platform", HEARD_SECONDS
    )
    with pytest.raises(NoOwnKeyError, match="no_credential"):
        run.key("openai")
    stack.registry.patch(place, json={"enabled": True}).raise_for_status()
    wait_for(
        "the key to apply again", lambda: run.key("openai", otherwise="platform").secret == lease.secret, HEARD_SECONDS
    )


def test_a_key_that_the_provider_does_not_take_is_reported_and_the_next_one_is_used(
    stack: Stack, new_meter: Callable[..., Meter]
) -> None:
    class Unauthorized(Exception):
        status_code = 401

    org_id = stack.new_organization("pro")
    place = f"/v1/credentials/{stack.add_key(org_id, 'team', 'core', 'xai')}"
    run = new_meter().run(org=org_id, user="ada", team="core")
    used: list[str | None] = []

    def call(secret: str | None) -> str:
        used.append(secret)
        if len(used) == 1:
            stack.registry.post(f"{place}/rotate", json={"api_key": "sk-test-another-key-9876"}).raise_for_status()
            raise Unauthorized(f"no such key: {secret}")
        return "answered"

    assert run.with_key("xai", lambda lease: call(lease.secret)) == "answered"
    assert used[1] == "sk-test-another-key-9876"
    # What was said of the key before does not count against the one that took its place.
    assert stack.registry.get(place).json()["health"] is None
    lease = run.key("xai")
    assert run.report(lease, "exhausted", f"quota of {lease.secret} is used up")
    health = stack.registry.get(place).json()["health"]
    assert health["outcome"] == "exhausted"
    assert str(lease.secret) not in json.dumps(health)


def test_what_has_no_price_is_set_aside_and_its_neighbours_are_booked(
    stack: Stack, new_meter: Callable[..., Meter]
) -> None:
    org_id = stack.new_organization()
    runs = itertools.count(1)

    def told_at_the_door() -> bool:
        """The ledger refuses what has no price while it is sure of the prices; else metering makes a letter of it."""
        meter = new_meter(linger_seconds=1.0)
        run = meter.run(org=org_id, user="ada", run_id=f"r{next(runs)}")
        for step, model in (("a", "claude-sonnet-4-6"), ("b", "claude-unheard-of"), ("c", "claude-sonnet-4-6")):
            with run.act(step) as act:
                act.usage(provider="anthropic", model=model, input=10, output=1)
        assert meter.flush(PATIENCE_SECONDS)
        counts = meter.counts()
        assert counts.accepted == counts.acknowledged + counts.rejected == 3
        return counts.rejected == 1

    wait_for("the door to be sure of the prices", told_at_the_door)
    booked = 2 * (next(runs) - 1)
    assert len(stack.entries(org_id, booked)) == booked


def test_while_the_registry_is_away_a_lease_goes_on_serving_and_nothing_is_made_up(
    stack: Stack, new_meter: Callable[..., Meter]
) -> None:
    org_id = stack.new_organization("pro")
    stack.add_key(org_id, "personal", "ada", "openai")
    registry = urlsplit(stack.told["registry_url"])
    proxy = Proxy()
    proxy.forward(registry.port or 0)
    meter = new_meter(registry_url=f"http://127.0.0.1:{proxy.port}", timeout_seconds=2.0)
    run = meter.run(org=org_id, user="ada")
    lease = run.key("openai")
    proxy.away()
    try:
        # As a minute later: it is no longer fresh, and there is nobody to ask.
        meter._leases._cache._clock = lambda: time.monotonic() + 61
        assert run.key("openai") is lease
        # Of what was never leased nobody can say whose key it is, and the platform's is no answer.
        with pytest.raises(RegistryAwayError):
            run.key("xai", otherwise="platform")
        meter._leases._cache._clock = lambda: time.monotonic() + 601
        with pytest.raises(RegistryAwayError):
            run.key("openai", otherwise="platform")
        wait_for("the trouble to be shown", lambda: "byok_sdk_changes_unheard 1" in meter.metrics())
    finally:
        proxy.close()


def test_an_async_runner_does_the_same(stack: Stack, tmp_path: Path) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "team", "core", "anthropic")
    place = f"/v1/credentials/{credential_id}"
    settings = Settings(
        registry_url=stack.told["registry_url"],
        ledger_url=stack.told["ledger_url"],
        token=stack.told["tokens"]["runner"],
        spool_dir=tmp_path / "spool",
    )

    async def answer() -> AsyncIterator[dict[str, Any]]:
        for event in ANTHROPIC_STREAM:
            yield event

    async def run() -> None:
        async with AsyncMeter(settings) as meter:
            run = meter.run(org=org_id, user="ada", team="core", run_id="r42")
            lease, *others = await asyncio.gather(*(run.key("anthropic") for _ in range(20)))
            assert all(other is lease for other in others)
            async with run.act("plan") as act:
                streamed = [event async for event in act.stream(answer(), lease)]
            async with run.act("cut") as act:
                async for event in act.stream(answer(), lease):
                    if event["type"] == "ping":
                        break
            assert streamed == ANTHROPIC_STREAM
            stack.registry.patch(place, json={"enabled": False}).raise_for_status()
            began = time.monotonic()
            while (await run.key("anthropic", otherwise="platform")).source == "byok":
                assert time.monotonic() - began < HEARD_SECONDS
                await asyncio.sleep(0.02)
            assert await meter.flush(PATIENCE_SECONDS)
            assert meter.counts() == Counts(accepted=2, acknowledged=2)

    asyncio.run(run())
    cut, plan = sorted(stack.entries(org_id, 2), key=lambda entry: str(entry["agent_id"]))
    assert (plan["agent_id"], plan["output_tokens"], plan["flags"]) == ("plan", 15, [])
    assert (cut["agent_id"], cut["output_tokens"], cut["flags"]) == ("cut", 1, ["usage_partial"])
    # Twenty asked at once, and the registry was asked once.
    assert leases_of(stack, org_id, credential_id) == 1
