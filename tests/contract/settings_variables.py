"""Every environment variable that a process of ours reads as a setting."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import services
from services.runtime.settings import Settings

# All classes there are, whatever else a test has imported.
for _its in Path(services.__path__[0]).glob("*/settings.py"):
    importlib.import_module(f"services.{_its.parent.name}.settings")


def variables() -> dict[str, object]:
    """Their defaults, None where there is none, by their names."""
    found: dict[str, object] = {}
    for its in _classes(Settings):
        for field, said in its.model_fields.items():
            default = None if said.is_required() else said.default
            assert found.setdefault(f"BYOK_{field.upper()}", default) == default, f"{field} has two defaults"
    return found


def _classes(of: type[Settings]) -> Iterator[type[Settings]]:
    yield of
    for its in of.__subclasses__():
        yield from _classes(its)
