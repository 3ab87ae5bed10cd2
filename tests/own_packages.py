"""Python environments with packages that nothing else here needs, made once under ``build``."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_SECONDS

_BUILD = Path(__file__).parents[1] / "build"


class NotInstallableError(Exception):
    """The packages cannot be had; the message is the end of what the installer says."""


def python_with(name: str, requirements: Path, python: str = sys.executable) -> Path:
    """The interpreter of the environment ``build/name/…``, anew for another list of packages or another ``python``.

    ``requirements`` names every package and version. Raises NotInstallableError.
    """
    said = subprocess.run([python, "-VV"], capture_output=True, check=True, timeout=PATIENCE_SECONDS).stdout
    wanted = hashlib.sha256(requirements.read_bytes() + python.encode() + said).hexdigest()[:12]
    folder = _BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / wanted
    with (folder / "lock").open("w") as lock:
        # Tests run side by side; the others wait for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _make(place, requirements, python)
    return place / "bin" / "python"


def _make(place: Path, requirements: Path, python: str) -> None:
    subprocess.run([python, "-m", "venv", "--clear", place], check=True, timeout=PATIENCE_SECONDS)
    install = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    done = subprocess.run(
        [*install, "--no-deps", "--only-binary", ":all:", "--requirement", requirements],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise NotInstallableError(done.stderr[-300:])
    (place / "complete").touch()
