"""The SDK's example: an agent that asks, calls a tool and writes is charged for each of its steps, once."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.local.endpoints import Ports
from tests.e2e.running import Stack, environment
from tests.patience import PATIENCE_SECONDS, wait_for

EXAMPLES = Path(__file__).parents[3] / "sdk" / "examples"


@pytest.fixture
def provider_url() -> Iterator[str]:
    port = Ports.free_block().kafka
    provider = subprocess.Popen([sys.executable, EXAMPLES / "fake_provider.py", str(port)])

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the provider", listens)
    yield f"http://127.0.0.1:{port}"
    provider.terminate()
    provider.wait(PATIENCE_SECONDS)


def test_each_step_of_the_agent_is_charged_once(stack: Stack, provider_url: str, tmp_path: Path) -> None:
    org_id = stack.new_organization("pro")
    stack.add_key(org_id, "personal", "u1", "anthropic")
    settings = {
        "BYOK_REGISTRY_URL": stack.told["registry_url"],
        "BYOK_LEDGER_URL": stack.told["ledger_url"],
        "BYOK_TOKEN": stack.told["tokens"]["runner"],
        "BYOK_SPOOL_DIR": str(tmp_path / "spool"),
        "PROVIDER_URL": provider_url,
    }
    for user in ("u1", "u2"):
        done = subprocess.run(
            [sys.executable, EXAMPLES / "agent.py", org_id, user, "Plan my week. " * 100, f"run-of-{user}"],
            env=environment() | settings,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "A short answer."), done.stderr
    entries = list(stack.settled(org_id, 10).values())
    own, ours = ([each for each in entries if each["user_id"] == user] for user in ("u1", "u2"))
    assert (
        sorted(map(_step, own))
        == sorted(map(_step, ours))
        == [
            ("usage.token_usage.v2", "planner"),
            ("usage.token_usage.v2", "planner"),
            ("usage.token_usage.v2", "writer"),
            ("usage.tool_call.v1", "calendar"),
            ("usage.workflow_run.v1", "planner"),
        ]
    )
    assert {each["key_source"] for each in own if each["agent_id"]} == {"byok"}
    assert {each["key_source"] for each in ours if each["agent_id"]} == {"platform"}
    # Tokens cost half with an own key, and a stream that was read to its end is no part of one.
    assert sum(each["saved_mc"] for each in own) * 2 == sum(each["list_mc"] for each in own if each["agent_id"]) > 0
    assert sum(each["saved_mc"] for each in ours) == 0
    assert not [each for each in entries if "usage_partial" in each["flags"]]


def _step(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["event_type"], entry["agent_id"] or entry["tool"] or entry["workflow_id"]
