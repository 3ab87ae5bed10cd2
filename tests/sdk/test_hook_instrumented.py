"""OpenTelemetry's instrumentations of OpenAI's and Anthropic's packages as they are installed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.foreign_ledger import foreign_ledger
from tests.sdk.model_server import Served, provider_server
from tests.sdk.own_environment import run_metered

pytestmark = pytest.mark.slow


def told(spool: Path, *cache_life: str) -> tuple[list[Served], list[dict[str, Any]], str]:
    """What was served, the payloads of what the ledger got, and what the program said."""
    with provider_server() as provider, foreign_ledger() as ledger:
        done = run_metered("span_calls.py", *cache_life, provider=provider, ledger=ledger, spool=spool)
    assert b"nobody-may-keep" not in b"".join(ledger.bodies)
    assert "nobody-may-keep" not in done.stdout + done.stderr
    booked = [json.loads(text)["data"] for texts in ledger.taken.values() for text in texts]
    assert {(d["org_id"], d["user_id"], d["team_id"], d["run_id"], d["agent_id"]) for d in booked} == {
        ("acme", "u1", "t1", "r42", "plan")
    }
    return provider.served, booked, done.stdout


def described(model: str, usage: dict[str, int], conditions: dict[str, str] | None) -> str:
    return json.dumps([model, usage, conditions or {}], sort_keys=True)


def test_each_call_is_one_event_with_the_counts_of_the_provider(tmp_path: Path) -> None:
    served, booked, said = told(tmp_path / "spool", "5m")
    assert "not recorded: 0" in said
    assert len(served) == 7
    assert Counter(described(d["model"], d["usage"], d.get("conditions")) for d in booked) == Counter(
        described(each.recorded.answer["model"], each.recorded.units, each.recorded.conditions) for each in served
    )


def test_a_call_that_wrote_to_a_cache_needs_to_be_told_for_how_long(tmp_path: Path) -> None:
    served, booked, said = told(tmp_path / "spool")
    wrote = [each for each in served if each.recorded.units.keys() & {"cache_write_5m", "cache_write_1h"}]
    assert len(wrote) == 4
    assert "not recorded: 4" in said
    assert Counter(d["model"] for d in booked) == {"gpt-audio-2": 2, "text-embedding-3-small": 1}
