"""A Python environment with the packages that the SDK's hooks are for, made once: they are large, and nothing else here
needs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.enabling import skip_unless

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "hooked"
NEEDED = PROGRAMS / "requirements.txt"


def python_with_packages() -> Path:
    """Its interpreter. Made in ``build``, anew for another list of packages; skips where they cannot be had."""
    wanted = hashlib.sha256(NEEDED.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / "build" / "sdk-hooks"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / wanted
    with (folder / "lock").open("w") as lock:
        # Tests run side by side; the others wait for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _make(place)
    return place / "bin" / "python"


def _make(place: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True, timeout=120)
    install: list[str | Path] = [
        place / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(
        [*install, "--no-deps", "--only-binary", ":all:", "--requirement", NEEDED],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    skip_unless(
        done.returncode == 0,
        f"the packages of the SDK's hooks cannot be installed: {done.stderr[-300:]}",
        "a package index",
        needs="sdk-hooks",
    )
    (place / "complete").touch()


def environment(**more: str) -> dict[str, str]:
    """For a program there: the SDK as it stands, and nothing that these packages would fetch or send by themselves."""
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "sdk" / "src", PROGRAMS))),
    }
    return dict(os.environ) | quiet | more


def run_there(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs of ``hooked``; what it says on both of its outputs."""
    return subprocess.run(
        [python_with_packages(), PROGRAMS / program, *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def run_text(program: str, **more: str) -> None:
    """Run a program's text, which must succeed."""
    command: list[str | Path] = [python_with_packages(), "-c", program]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    python_with_packages()
