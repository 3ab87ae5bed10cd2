"""The how-to for runners is run as it stands, command by command."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from dataclasses import fields
from pathlib import Path

from byok_sdk.metrics import METRICS
from byok_sdk.settings import Settings

from tests.e2e.running import Stack, environment
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "integrate-a-runner.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    blocks: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for written_in, text in blocks if written_in == language]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_from_nothing_to_the_first_saved_credit(stack: Stack, tmp_path: Path) -> None:
    for name, place in ((".byok", stack.data_dir), (".venv", ROOT / ".venv"), ("sdk", ROOT / "sdk")):
        (tmp_path / name).symlink_to(place)
    first, handled, searched, awaited, *_ = _blocks("python")
    inside = "\n".join(
        f"    {line}" for line in f"run = meter.run(org='acme', user='u1')\n{handled}{searched}".splitlines()
    )
    (tmp_path / "agent.py").write_text(first)
    (tmp_path / "more.py").write_text(f"{first}\nwith Meter.from_env() as meter:\n{inside}\n{awaited}")
    before, after = _blocks("sh")
    script = f"set -eu\n{before}\n{after}".replace("8790", str(_free_port()))
    # What was handled further down on the page uses what the session has set.
    script = script.replace(".venv/bin/byok-sdk status\n", ".venv/bin/byok-sdk status\n.venv/bin/python more.py\n")
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert _blocks("")[0] in ran.stdout
    groups = json.loads(ran.stdout[ran.stdout.rindex('{"position"') :])["groups"]
    of_both = {group["user_id"]: group for group in groups}
    assert of_both["u2"]["events"] == 2
    assert of_both["u2"]["saved_mc"] == 0
    # Two acts of the session that was run twice, and the three further down on the page.
    agent = [entry for entry in stack.entries("acme", 6) if entry["agent_id"] == "planner"]
    assert len(agent) == 2
    saved = {entry["user_id"]: (entry["list_mc"], entry["saved_mc"]) for entry in agent}
    assert saved["u1"][1] * 2 == saved["u1"][0] > 0
    assert saved["u2"] == (saved["u1"][0], 0)


def test_the_page_has_every_setting() -> None:
    table = PAGE[PAGE.index("## Settings") :]
    told = set(re.findall(r"`(BYOK_[A-Z_]+)`", table))
    assert told == {f"BYOK_{each.name.upper()}" for each in fields(Settings)}


def test_the_page_has_every_metric() -> None:
    assert re.findall(r"^\| `(byok_sdk_\w+)` \|", PAGE, re.MULTILINE) == [metric.name for metric in METRICS]
