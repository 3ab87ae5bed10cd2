"""A broken producer pauses the whole stack; an operator sees it everywhere, and lets it go on with one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.running import Stack, node_call, start_stack
from tests.patience import PATIENCE_SECONDS, wait_for

SETTINGS: dict[str, Any] = {"BYOK_METERING_PAUSE_SHARE": "0.5", "BYOK_METERING_PAUSE_MIN_EVENTS": "20"}
BAD = 30
GOOD = 50
METERING = 2
"""Which of the metrics' addresses is the worker's."""


def _worker(stack: Stack) -> str:
    return str(stack.told["metrics"][METERING]).removesuffix("/metrics")


def _ready(stack: Stack) -> httpx.Response:
    return httpx.get(f"{_worker(stack)}/readyz", timeout=PATIENCE_SECONDS)


def _metric(url: str, name: str) -> list[float]:
    lines = httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).text.splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]


def _resume(stack: Stack, *arguments: str) -> str:
    command = [sys.executable, "-m", "services", "dead-letters", "resume", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    return subprocess.run(
        [*command, "--data-dir", str(stack.data_dir)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout


def _resume_json(stack: Stack, *arguments: str) -> Any:
    return json.loads(_resume(stack, *arguments, "--json"))


def _pause(stack: Stack) -> str:
    """Send nothing but bad events until metering is paused; a broken producer's organization."""
    org_id = stack.new_organization()
    for _ in range(BAD):
        stack.send(b"no event", org_id)
    wait_for("a pause", lambda: _ready(stack).status_code == 503)
    return org_id


def _booked(stack: Stack) -> int:
    row = stack.sql.execute("SELECT coalesce(sum(events), 0)::int AS events FROM ledger.covered_range").fetchone()
    return 0 if row is None else int(row["events"])


def _stays_unbooked(stack: Stack, seconds: float = 2) -> bool:
    before, until = _booked(stack), time.monotonic() + seconds
    while time.monotonic() < until:
        if _booked(stack) != before:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_a_pause_is_seen_holds_everything_and_ends_with_a_command(tmp_path: Path) -> None:
    with start_stack(tmp_path / "data", **SETTINGS) as stack:
        assert _metric(_worker(stack), "byok_metering_paused") == [0]
        org_id = _pause(stack)
        missing = _ready(stack).json()["missing"]
        assert set(missing) == {"pause"}
        assert "malformed_json" in missing["pause"]
        assert "byok dead-letters resume" in missing["pause"]
        assert _metric(_worker(stack), "byok_metering_paused") == [1]
        for _ in range(GOOD):
            stack.publish(node_call(org_id))
        assert _stays_unbooked(stack)
        assert _resume_json(stack, "--dry-run")["pause"]["causes"][0]["reason"] == "malformed_json"
        assert _ready(stack).status_code == 503
        assert _resume_json(stack, "--yes")["resumed"] is True
        assert len(stack.entries(org_id, GOOD)) == GOOD
        wait_for("the worker to be ready", lambda: _ready(stack).status_code == 200)
        wait_for("every dead letter", lambda: _booked(stack) == BAD + GOOD)
        assert _metric(_worker(stack), "byok_metering_paused") == [0]
        # It is looked at every few seconds, by a thread of its own.
        residuals = partial(_metric, stack.told["ledger_url"], "byok_conservation_residual_events")
        assert set(wait_for("the residuals", residuals)) == {0}
        assert _resume_json(stack, "--yes") == {"pause": None, "resumed": False, "dry_run": False}
        (said,) = [
            json.loads(line)
            for line in (stack.data_dir / "logs" / "metering.log").read_text().splitlines()
            if '"metering is paused"' in line
        ]
        assert said["level"] == "warning"
        assert said["dead_letters"] >= 20
        assert said["causes"][0]["reason"] == "malformed_json"


@pytest.mark.slow
def test_a_paused_stack_starts_again_paused_and_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start_stack(data_dir, **SETTINGS) as stack:
        _pause(stack)
    with start_stack(data_dir) as stack:
        assert _ready(stack).status_code == 503
        org_id = stack.new_organization()
        stack.publish(node_call(org_id))
        assert _stays_unbooked(stack)
        shown = _resume(stack, "--yes")
        assert "malformed_json" in shown
        assert "Metering goes on." in shown
        assert len(stack.entries(org_id, 1)) == 1
        assert _resume(stack) == "Metering is not paused.\n"
    assert "But metering is paused" in (tmp_path / "data-up.log").read_text()
