"""The ledger database's schema, step by step. Run as the owner of the tables, never as the service."""

from __future__ import annotations

import psycopg

from services.books.schema import LEDGER, require_our_ids
from services.runtime.migrations import upgrade_database


def upgrade(admin_dsn: str) -> None:
    """Bring the ledger database to the newest schema. Raises SchemaMismatch, with nothing changed; psycopg.Error."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        if LEDGER.revision(connection) is not None:
            require_our_ids(connection)
    upgrade_database(admin_dsn, LEDGER)
