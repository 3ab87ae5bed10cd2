"""Which release this is, installed or not: the image has our folders, and no package of ours."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE = "byok-credit-metering"
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def release() -> str:
    """The version, as ``pyproject.toml`` has it."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return str(tomllib.loads(_PROJECT.read_text())["project"]["version"])
