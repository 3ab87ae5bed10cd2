"""A registry's database as it was: a copy of it, which then goes on as one that was restored from a backup would."""

from __future__ import annotations

import itertools
from typing import Any

from services.books.migrations import upgrade as upgrade_ledger
from tests.integration.key_registry.conftest import PASSWORDS, Database

_numbers = itertools.count(1)


def copied(postgres: Any, database: Database) -> Database:
    """A copy of ``database`` as it is now; nobody may be connected to it."""
    name = f"older_{next(_numbers)}"
    with postgres[0].connect() as admin:
        of = database.dsn.rpartition("/")[2]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (of,))
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {of} OWNER registry_owner")
    return Database(*(dsn.rpartition("/")[0] + f"/{name}" for dsn in database))


def exchanged(postgres: Any, one: Database, other: Database) -> None:
    """Put each of the two databases in the other's place, whoever is connected."""
    names = [database.dsn.rpartition("/")[2] for database in (one, other)]
    with postgres[0].connect() as admin:
        for name in names:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ANY(%s)", (names,))
        for name, becomes in ((names[0], "between"), (names[1], names[0]), ("between", names[1])):
            admin.execute(f"ALTER DATABASE {name} RENAME TO {becomes}")
        for name in names:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def new_ledger(postgres: Any, database: Database) -> Database:
    """A ledger, migrated, whose history of the registry is that of ``database``."""
    server, port = postgres
    name = f"ledger_of_{next(_numbers)}"
    with server.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER ledger_owner")
    ledger = Database(
        *(
            f"postgresql://{role}:{PASSWORDS[role]}@127.0.0.1:{port}/{name}"
            for role in ("ledger_owner", "ledger_service")
        )
    )
    upgrade_ledger(ledger.admin_dsn)
    follow(ledger, database)
    return ledger


def follow(ledger: Database, database: Database) -> None:
    """Have the ledger know every change that the registry has."""
    for seq, key, payload in database.rows("SELECT seq, key, payload FROM registry.log ORDER BY seq"):
        ledger.rows(
            "INSERT INTO ledger.registry_change (seq, key, payload) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
            " RETURNING 1",
            *(seq, key, payload),
        )
