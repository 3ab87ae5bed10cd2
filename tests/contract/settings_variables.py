"""Every environment variable that a process of ours reads as a setting."""

from __future__ import annotations

from collections.abc import Iterator

# All classes there are: those of the commands stand on those of the services.
from services.runtime.settings import Settings


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
