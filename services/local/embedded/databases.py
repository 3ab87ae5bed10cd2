"""The two databases and their roles: owners that migrate, services that own nothing, readers, and a replayer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg import Connection, sql

DATABASES = ("ledger", "registry")
READER = "ledger_reader"
REPLAYER = "ledger_replay"
"""Makes the shadow ledger of `byok verify --replay`, beside the real one, which it cannot enter."""
DASHBOARD = "ledger_dashboard"
"""Whoever looks at the ledger's views: a login with what READER grants, and nothing else."""
COMPARER = "ledger_registry"
"""Whom the registry is to the ledger: it reads the ledger's copy of its log, and nothing else (ADR 0029)."""
LOGIN_ROLES = (
    *(f"{database}_{role}" for database in DATABASES for role in ("owner", "service")),
    *(REPLAYER, DASHBOARD, COMPARER),
)


def prepare_databases(admin: Connection[Any], passwords: Mapping[str, str]) -> None:
    """Make what is missing; safe on every start. ``admin`` is a superuser's connection in autocommit.

    ``passwords`` has one for each of LOGIN_ROLES.
    """
    for role in LOGIN_ROLES:
        _create_role(admin, role)
        _set_password(admin, role, passwords[role])
    _run(admin, "ALTER ROLE {} CREATEDB", REPLAYER)
    _create_role(admin, READER)
    _run(admin, "GRANT {} TO {}", READER, DASHBOARD)
    for database in DATABASES:
        _create_database(admin, database)
    for reader in (READER, COMPARER):
        _run(admin, "GRANT CONNECT ON DATABASE ledger TO {}", reader)


def _create_role(admin: Connection[Any], role: str) -> None:
    if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        _run(admin, "CREATE ROLE {} NOLOGIN", role)


def _set_password(admin: Connection[Any], role: str, password: str) -> None:
    # Hashed here, so that the password itself never reaches a statement, and so no log of the server.
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _create_database(admin: Connection[Any], database: str) -> None:
    owner, service = f"{database}_owner", f"{database}_service"
    if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
        _run(admin, "CREATE DATABASE {} OWNER {}", database, owner)
    _run(admin, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)
    # Temporary tables are what batches are copied into; they are not the right to create anything that stays.
    _run(admin, "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database, service)


def _run(admin: Connection[Any], statement: LiteralString, *names: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
