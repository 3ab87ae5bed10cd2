"""The registry's schema, as programs look at it before they begin. Without Alembic, which only an upgrade needs."""

from __future__ import annotations

from pathlib import Path

from services.runtime.schema_version import Schema

REGISTRY = Schema("registry", Path(__file__).parents[1] / "migrations")
