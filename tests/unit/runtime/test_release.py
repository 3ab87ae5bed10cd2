"""The release is known where the package is installed, and where its folders alone are, as in the image."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from services.runtime import release as module
from services.runtime.metrics import process_registry
from services.runtime.release import release

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _not_installed(name: str) -> str:
    raise PackageNotFoundError(name)


def test_it_is_the_same_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert release() == VERSION
    monkeypatch.setattr(module, "version", _not_installed)
    assert release() == VERSION
    assert process_registry().get_sample_value("byok_build_info", {"version": VERSION}) == 1


def test_the_image_has_what_it_is_read_from() -> None:
    assert "COPY LICENSE pyproject.toml /app/\n" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert "!pyproject.toml\n" in (ROOT / ".dockerignore").read_text()
