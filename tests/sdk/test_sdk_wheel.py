"""The SDK as runners get it: its wheel, installed where nothing else is, on each Python it says it is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS
from tests.sdk.foreign_ledger import foreign_ledger

ROOT = Path(__file__).parents[2]

USE = """
import sys
from pathlib import Path
import byok_sdk
assert "site-packages" in byok_sdk.__file__, byok_sdk.__file__
from byok_sdk import AsyncMeter, Meter, Settings
patience_seconds = float(sys.argv[3])
settings = Settings(registry_url=sys.argv[1], ledger_url=sys.argv[1], token="made-up", spool_dir=Path(sys.argv[2]))
reply = {"id": "x", "model": "grok-5", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
with Meter(settings) as meter:
    with meter.run(org="acme", user="u1", run_id="r1").act("plan") as act:
        act.record(reply, provider="xai")
    assert meter.flush(patience_seconds)
import asyncio
async def run():
    async with AsyncMeter(settings) as meter:
        async with meter.run(org="acme", user="u1", run_id="r2").act("plan") as act:
            await act.record(reply, provider="xai")
        assert await meter.flush(patience_seconds)
asyncio.run(run())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "./sdk", "--quiet", "--disable-pip-version-check"]
    command = [*build, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE_SECONDS)
    (built,) = folder.glob("byok_sdk-*-py3-none-any.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    sources = {path.relative_to(ROOT / "sdk" / "src").as_posix() for path in (ROOT / "sdk" / "src").rglob("*.py")}
    assert {*sources, "byok_sdk/py.typed"} <= names
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in needed if "extra ==" not in line] == ["Requires-Dist: httpx>=0.27"]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_it_runs_where_nothing_else_is_installed(wheel: Path, tmp_path: Path, version: str) -> None:
    python = shutil.which(f"python{version}")
    usable = (
        python and subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0
    )
    skip_unless(usable, f"there is no python{version}", f"install python{version} with venv")
    subprocess.run([str(python), "-m", "venv", tmp_path / "venv"], check=True, timeout=PATIENCE_SECONDS)
    own = tmp_path / "venv" / "bin"
    install = [str(own / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    skip_unless(installed.returncode == 0, f"httpx cannot be installed: {installed.stderr[-200:]}", "a package index")
    with foreign_ledger() as ledger:
        subprocess.run(
            [own / "python", "-W", "error", "-c", USE, ledger.url, tmp_path / "spool", str(PATIENCE_SECONDS)],
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        assert len(ledger.taken) == 2
    status = subprocess.run(
        [own / "byok-sdk", "status", tmp_path / "spool"], capture_output=True, text=True, check=False
    )
    assert (status.returncode, status.stdout.splitlines()[0].split()[:2]) == (0, ["accepted", "2"])
