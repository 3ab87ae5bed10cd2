"""The systemd units are held to the code, and to what systemd itself thinks of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from typer.main import get_command

from services.cli.commands import app
from tests.contract.settings_variables import variables
from tests.contract.test_deploy import ROOT
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

FOLDER = ROOT / "deploy" / "systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
ENABLE = "apt install systemd"
EXPOSURE_MAX = 20
"""In tenths: of 10, which is a program that may do anything; 2.0 is what systemd calls OK."""


def _settings(unit: Path) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found[name].append(value)
    return found


def test_there_is_a_unit_for_each_program_and_a_template_for_workers() -> None:
    assert {unit.name for unit in FOLDER.iterdir()} == {
        *(f"byok-{name}.service" for name in ("registry", "ledger", "console", "metering@", "migrate", "verify")),
        *("byok-verify.timer", "byok-sysusers.conf"),
    }


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_a_unit_starts_what_there_is_with_settings_that_there_are(unit: Path) -> None:
    settings = _settings(unit)
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in settings["ExecStart"]:
        assert line.startswith("/opt/byok/bin/python -m services ")
        assert line.split()[3] in commands
    told = " ".join(settings["Environment"])
    assert set(re.findall(r"BYOK_\w+", told)) <= set(variables())
    # Others than root may read an environment that stands in a unit.
    assert not re.search(r"DSN|KEKS|PASSWORD", told)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_no_unit_runs_as_root_and_registry_and_console_alone_may_read_their_keys(unit: Path) -> None:
    (user,) = _settings(unit)["User"]
    assert user == (unit.stem if unit.stem in ("byok-registry", "byok-console") else "byok")
    assert re.search(rf"^u {user} ", (FOLDER / "byok-sysusers.conf").read_text(), re.MULTILINE)


def test_a_wrong_setting_is_no_reason_to_start_again() -> None:
    for name in ("registry", "ledger", "console", "metering@"):
        settings = _settings(FOLDER / f"byok-{name}.service")
        assert settings["Restart"] == ["on-failure"]
        assert settings["RestartPreventExitStatus"] == ["2"]


def test_the_timer_starts_a_verification_that_prometheus_hears_of() -> None:
    (command,) = _settings(FOLDER / "byok-verify.service")["ExecStart"]
    folders = _settings(FOLDER / "byok-verify.service")["StateDirectory"][0].split()
    assert command.split()[-2:] == ["--textfile", f"/var/lib/{folders[-1]}/byok-verify.prom"]
    assert _settings(FOLDER / "byok-verify.timer")["Persistent"] == ["true"]


def _systemd(tmp_path: Path, *arguments: str) -> str:
    """What systemd-analyze says of the units, whose program need not be installed here."""
    program = shutil.which("systemd-analyze")
    skip_unless(program, "systemd is not installed", ENABLE, needs="systemd-analyze")
    for unit in (*SERVICES, *FOLDER.glob("*.timer")):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/byok/bin/python", "/usr/bin/env"))
    done = subprocess.run(
        [str(program), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    names = [f"./{unit.name.replace('@', '@8003')}" for unit in (*SERVICES, *FOLDER.glob("*.timer"))]
    said = _systemd(tmp_path, "verify", "--man=no", "--recursive-errors=one", *names)
    assert not said, said


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_systemd_finds_little_that_a_unit_may_do(unit: Path, tmp_path: Path) -> None:
    _systemd(tmp_path, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", f"./{unit.name}")
