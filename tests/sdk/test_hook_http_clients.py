"""Providers' own packages as they are installed, watched: what is recorded is what the provider has counted, once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.foreign_ledger import foreign_ledger
from tests.sdk.model_server import ProviderServer, provider_server
from tests.sdk.own_environment import run_metered

pytestmark = pytest.mark.slow


def calls_of(package: str, provider: ProviderServer, spool: Path) -> list[dict[str, Any]]:
    """The payloads of what the ledger got; nothing of a key or a prompt was kept, or said, on the way."""
    with foreign_ledger() as ledger:
        done = run_metered("client_calls.py", package, provider=provider, ledger=ledger, spool=spool)
    assert "not recorded: 0" in done.stdout, done.stderr[-3000:]
    kept = (done.stdout + done.stderr).encode() + b"".join(path.read_bytes() for path in spool.iterdir())
    for body in (kept, *ledger.bodies):
        assert b"nobody-may-keep" not in body
        assert b"nobody may keep" not in body
    return [json.loads(text)["data"] for texts in ledger.taken.values() for text in texts]


def described(model: str, usage: dict[str, int], conditions: dict[str, str] | None, answer_id: str | None) -> str:
    return json.dumps([model, usage, conditions or {}, answer_id], sort_keys=True)


@pytest.mark.parametrize("compresses", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("package", "answers"), [("openai", 27), ("anthropic", 6), ("google", 4), ("litellm", 6)])
def test_each_answer_is_one_event_with_the_counts_of_the_provider(
    package: str, answers: int, compresses: bool, tmp_path: Path
) -> None:
    with provider_server() as provider:
        provider.compresses = compresses
        # Each package asks again by itself; what failed is no answer.
        provider.failures = [500] if package != "google" else []
        booked = calls_of(package, provider, tmp_path / "spool")
    served = [
        (each.recorded.answer.get("model", each.recorded.answer.get("modelVersion")), each) for each in provider.served
    ]
    assert len(served) == answers
    assert Counter(
        described(d["model"], d["usage"], d.get("conditions"), d.get("provider_request_id")) for d in booked
    ) == Counter(described(model, each.recorded.units, each.recorded.conditions, each.id) for model, each in served)
    assert not [data for data in booked if "usage_status" in data]


def test_a_stream_that_is_left_is_partial(tmp_path: Path) -> None:
    with provider_server() as provider:
        provider.go_on.clear()
        booked = calls_of("left", provider, tmp_path / "spool")
        provider.go_on.set()
    assert len(booked) == 5
    assert {(d["usage_status"], d["usage"]["input"], d["usage"]["output"]) for d in booked} == {("partial", 8246, 1)}
    assert {d["provider_request_id"] for d in booked} == {each.id for each in provider.served}
