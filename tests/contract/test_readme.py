"""The README is part of the contract: what it lists must be what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

from services.runtime.settings import Settings
from tests.e2e.running import start_stack
from tests.enabling import skip_unless

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
_PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _settings_table() -> dict[str, str]:
    rows = re.findall(r"^\| `(BYOK_[A-Z_]+)` \| (\S+) \| .+ \|$", README, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a setting is listed twice"
    return dict(rows)


def _as_listed(default: object) -> str:
    if default is None:
        return "–"
    if isinstance(default, bool):
        # As one writes it in an environment.
        return f"`{str(default).lower()}`"
    return f"`{default.value if isinstance(default, Enum) else default}`"


def test_the_table_of_settings_is_the_class_of_settings() -> None:
    expected = {f"BYOK_{name.upper()}": _as_listed(field.default) for name, field in Settings.model_fields.items()}
    assert _settings_table() == expected


def test_every_setting_that_is_mentioned_exists() -> None:
    known = {f"BYOK_{name.upper()}" for name in Settings.model_fields} | {
        "BYOK_TEST_REQUIRE_ALL",
        "BYOK_TEST_REQUIRE",
        "BYOK_UID",
        "BYOK_GID",
    }
    for page in _PAGES:
        assert set(re.findall(r"\bBYOK_[A-Z_]*[A-Z]\b", page.read_text())) <= known, page.name


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[^`]+\.py)`", README)
    assert len(named) > 9
    for path in named:
        assert (ROOT / path).is_file(), path


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "demo", "up", "test", "test-all", "check", "format", "bench"} <= targets
    for page in _PAGES:
        named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page.name


def _commands() -> set[str]:
    from typer.main import get_command

    from services.__main__ import app

    root = get_command(app)
    names = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names |= {f"{name} {child}" for child in inner} if inner else {name}
    return names


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"`byok ([a-z-]+(?: [a-z-]+)?)(?: FILE)?`", README))
    assert _commands() <= listed


def _session() -> str:
    section = README[README.index("## A session") : README.index("## How it works")]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


@pytest.mark.slow
def test_the_session_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    skip_unless(shutil.which("curl"), "curl is not installed", "apt install curl", needs="curl")
    data_dir = tmp_path / ".byok"
    byok = tmp_path / ".venv" / "bin" / "byok"
    byok.parent.mkdir(parents=True)
    byok.write_text(f'#!/bin/sh\nexec {sys.executable} -m services "$@"\n')
    byok.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    # The checkout is named, for where it is not installed: the session runs elsewhere.
    environment["PYTHONPATH"] = str(ROOT)
    with start_stack(data_dir):
        done = subprocess.run(
            ["bash", "-eu"],
            # Other tests run beside this one, so the machine gets a little longer than a reader has to wait.
            input=_session().replace("sleep 2", "sleep 6"),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    answer = json.loads(done.stdout[done.stdout.rindex('{"groups"') :])
    charged = {group["user_id"]: group["charged_mc"] for group in answer["groups"]}
    assert charged == {"u1": 3_000_000, "u2": 60_000_000}
    shown = re.search(r'"total": \{"events": 2, …, ("list_mc".*?)\}', README)
    assert shown is not None
    assert json.loads(f"{{{shown[1]}}}").items() <= answer["total"].items()
