"""Connections to the registry's database, as SQLModel sessions."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session

from services.runtime.database import connect

SERVICE = "key-registry"
Sessions = sessionmaker[Session]

_CONNECTIONS_MAX = 10
_WAIT_SECONDS = 5
# Whoever holds the log's head holds up every other change, so nobody may sit on it.
_LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"


def open_engine(dsn: str) -> Engine:
    """A pool of connections that are opened when needed, so that it can be made while the database is away."""

    def open_connection() -> psycopg.Connection[Any]:
        connection = connect(dsn, SERVICE)
        connection.execute(_LIMITS)
        connection.commit()
        return connection

    return create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        pool_size=_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        pool_pre_ping=True,
        # Parameters may be ciphertexts or a label that somebody should not have typed.
        hide_parameters=True,
    )


def sessions_on(engine: Engine) -> Sessions:
    """Sessions whose objects can still be read after the commit."""
    return sessionmaker(engine, class_=Session, expire_on_commit=False)
