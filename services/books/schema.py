"""The ledger's schema, as programs look at it before they begin: is it theirs, and are its entries' ids?"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection

from services.domain.entries import EntryKind, entry_id
from services.domain.usage import Identity
from services.runtime.database import connect
from services.runtime.schema_version import Schema, SchemaMismatch

LEDGER = Schema("ledger", Path(__file__).parent / "migrations")

# Without an order it is the oldest: entries are never moved, nor taken away.
_FIRST_CHARGE = "SELECT org_id, event_source, event_id, entry_id FROM ledger.entry WHERE kind = 'charge' LIMIT 1"


def require_ledger(dsn: str, service: str) -> None:
    """Raise SchemaMismatch where a program of this release must not begin on the ledger at ``dsn``; psycopg.Error."""
    with connect(dsn, service, autocommit=True) as connection:
        LEDGER.require(connection)
        require_our_ids(connection)


def require_our_ids(connection: Connection[Any]) -> None:
    """Raise SchemaMismatch where entries have ids that this release would not give them.

    The first programs of all derived them otherwise. On such a ledger the first redelivery would be a second event.
    """
    row = connection.execute(_FIRST_CHARGE).fetchone()
    if row is None:
        return
    org_id, source, event_id, found = row
    if UUID(str(found)) != entry_id(Identity(org_id, source, event_id), 0, EntryKind.CHARGE):
        raise SchemaMismatch(
            f"entry {found} of the ledger has not the id that this release derives for its event: it was booked by a "
            "program of before 2026-11-23T11:49Z, whose ledgers no later release can go on with; keep it for reading "
            "with that program, and begin with a new database"
        )
