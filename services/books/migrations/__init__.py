"""The ledger database's schema, step by step. Run as the owner of the tables, never as the service."""

from __future__ import annotations

from pathlib import Path

from services.runtime.migrations import upgrade_database


def upgrade(admin_dsn: str) -> None:
    """Bring the ledger database to the newest schema."""
    upgrade_database(admin_dsn, Path(__file__).parent, "ledger")
