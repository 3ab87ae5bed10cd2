"""The shadow ledger: an empty database of its own, gone afterwards. The real one is never written to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from services.books.migrations import upgrade
from services.runtime.command_failed import CommandFailed
from services.runtime.database import connect
from services.runtime.logs import logger

_log = logger(__name__)

_MAY_CREATE = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
# Whatever the server's own encoding is. Under the locale C any is allowed; where order matters, queries name it.
_CREATE = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE 'C'"
_IN_USE = "SELECT 1 FROM pg_namespace WHERE nspname = 'ledger'"


@contextmanager
def shadow_ledger(dsn: str) -> Iterator[str]:
    """An empty, migrated ledger; yields its DSN.

    Where the role of ``dsn`` may create databases, it is a new one on that server; else it is the database of ``dsn``
    itself, which must hold no ledger. Raises CommandFailed where it does, psycopg.Error where the server refuses.
    """
    with connect(dsn, "replay", autocommit=True) as connection:
        row = connection.execute(_MAY_CREATE).fetchone()
        with _created(connection, dsn) if row is not None and row[0] else _borrowed(connection, dsn) as shadow:
            yield shadow


@contextmanager
def _created(connection: psycopg.Connection[object], dsn: str) -> Iterator[str]:
    # 64 random bits: CREATE fails where the name is taken, so what is dropped is always what was created here.
    name = f"byok_replay_{secrets.token_hex(8)}"
    connection.execute(sql.SQL(_CREATE).format(sql.Identifier(name)))
    try:
        shadow = make_conninfo(dsn, dbname=name)
        upgrade(shadow)
        yield shadow
    finally:
        _drop(connection, name)


def _drop(connection: psycopg.Connection[object], name: str) -> None:
    try:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg.OperationalError as error:
        # What was found, or why the replay ended, matters more than what is left behind.
        _log.warning("the shadow ledger could not be dropped; drop it", database=name, error=type(error).__name__)


@contextmanager
def _borrowed(connection: psycopg.Connection[object], dsn: str) -> Iterator[str]:
    if connection.execute(_IN_USE).fetchone():
        raise CommandFailed(
            "the database of BYOK_REPLAY_DSN holds a ledger already, and its role may not create another database; "
            "name an empty database, or a role with CREATEDB"
        )
    try:
        upgrade(dsn)
        yield dsn
    finally:
        connection.execute("DROP SCHEMA ledger CASCADE")
