"""The registry database's schema, step by step. Run as the owner of the tables, never as the service."""

from __future__ import annotations

from services.key_registry.database.schema import REGISTRY
from services.runtime.migrations import upgrade_database


def upgrade(admin_dsn: str) -> None:
    """Bring the registry database to the newest schema. Raises SchemaMismatch, with nothing changed; psycopg.Error."""
    upgrade_database(admin_dsn, REGISTRY)
