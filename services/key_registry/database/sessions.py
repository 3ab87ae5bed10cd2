"""Connections to the registry's database, as SQLModel sessions."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session

from services.key_registry.rules.completeness import Completeness
from services.runtime.database import cannot_write, connect
from services.runtime.last_failure import LastFailure
from services.runtime.pools import look_before_use

SERVICE = "key-registry"
Sessions = sessionmaker[Session]

_CONNECTIONS_MAX = 10
_WAIT_SECONDS = 5
_FORGOTTEN_SECONDS = 15.0
_COMPLETENESS = "completeness"
_WRITES = ("INSERT", "UPDATE", "DELETE")
# Whoever holds the log's head holds up every other change, so nobody may sit on it.
_LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"


def open_engine(dsn: str) -> Engine:
    """A pool of connections that are opened when needed, so that it can be made while the database is away."""

    def open_connection() -> psycopg.Connection[Any]:
        connection = connect(dsn, SERVICE)
        connection.execute(_LIMITS)
        connection.commit()
        return connection

    engine = create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        pool_size=_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        # Parameters may be ciphertexts or a label that somebody should not have typed.
        hide_parameters=True,
    )
    look_before_use(engine)
    return engine


def one_moment(session: Session) -> None:
    """Let all that is read be of one moment: plan, card and keys that never held together would be a wrong answer."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def each_by_itself(session: Session) -> Connection:
    """The session's connection, each statement its own transaction: two round trips less, and whoever is stopped
    between two statements holds up nobody. There is nothing to commit at the end."""
    return session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})


def watch_writes(engine: Engine) -> LastFailure:
    """Whether the database takes no writes, as whoever tried one has found out: reading says nothing of it."""
    failure = LastFailure("writing to the database", forgotten_after=_FORGOTTEN_SECONDS)

    @event.listens_for(engine, "handle_error")
    def note(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, Exception) and cannot_write(error):
            failure.happened(error)

    @event.listens_for(engine, "after_cursor_execute")
    def wrote(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        # A transaction that fails later on in its writes says so at its end.
        if cursor.rowcount > 0 and statement.lstrip().upper().startswith(_WRITES):
            failure.over()

    return failure


def sessions_on(engine: Engine, completeness: Completeness | None = None) -> Sessions:
    """Sessions whose objects can still be read after the commit.

    They change and lease only what ``completeness`` lets them; without one, everything: for a test, or a command whose
    caller has seen to it.
    """
    return sessionmaker(engine, class_=Session, expire_on_commit=False, info={_COMPLETENESS: completeness})


def completeness_of(sessions: Session | Sessions) -> Completeness | None:
    """What the sessions' maker knows of its database."""
    info = sessions.info if isinstance(sessions, Session) else sessions.kw["info"]
    known: Completeness | None = info.get(_COMPLETENESS)
    return known
