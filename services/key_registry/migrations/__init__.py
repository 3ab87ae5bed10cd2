"""The registry database's schema, step by step. Run as the owner of the tables, never as the service."""

from __future__ import annotations

from pathlib import Path

from services.runtime.migrations import upgrade_database
from services.runtime.schema_version import Schema

REGISTRY = Schema("registry", Path(__file__).parent)


def upgrade(admin_dsn: str) -> None:
    """Bring the registry database to the newest schema. Raises SchemaMismatch, with nothing changed; psycopg.Error."""
    upgrade_database(admin_dsn, REGISTRY)
