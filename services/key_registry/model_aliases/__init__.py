"""The other names of models that ship with us, as data: what providers and gateways report."""

from __future__ import annotations

import json
from importlib import resources

from services.domain.directory import ModelAliases


def packaged_aliases() -> tuple[ModelAliases, ...]:
    """By provider."""
    written = json.loads(resources.files(__name__).joinpath("aliases.json").read_text())
    return tuple(ModelAliases(provider, names) for provider, names in sorted(written.items()))
