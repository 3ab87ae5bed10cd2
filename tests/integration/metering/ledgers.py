"""A ledger database for one test."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.integration.real_parts import Database


class Ledger:
    """An empty, migrated ledger database."""

    def __init__(self, postgres: Database, name: str) -> None:
        self.dsn = postgres.dsn("ledger_service", name)
        self.owner_dsn = postgres.dsn("ledger_owner", name)
        self.replayer_dsn = postgres.dsn("ledger_replay", "postgres")

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """What a statement finds."""
        with psycopg.connect(self.owner_dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(statement, parameters).fetchall()

    def execute(self, statements: str) -> None:
        """What only its owner may do."""
        with psycopg.connect(self.owner_dsn, autocommit=True) as connection:
            connection.execute(statements)

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, by event, revision and kind; a reversal before its correction."""
        return self.rows("SELECT * FROM ledger.entry ORDER BY event_id, revision, kind DESC")
