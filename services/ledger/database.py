"""How this service reaches the ledger database: read-only, and with a bound on everything."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from sqlalchemy import Engine, create_engine

from services.runtime.database import connect
from services.runtime.pools import look_before_use

STATEMENT_SECONDS_MAX = 30
_CONNECTIONS = 8
_MORE_CONNECTIONS = 8
_WAIT_SECONDS = 5


def open_engine(dsn: str) -> Engine:
    """A pool of read-only connections; none is opened before it is needed, so the database may still be away."""

    def read_only_connection() -> Connection[Any]:
        connection = connect(dsn, "ledger", autocommit=True)
        connection.execute("SET default_transaction_read_only = on")
        connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS_MAX}s'")
        # Whoever reads an export too slowly must not keep a snapshot open for ever.
        connection.execute("SET idle_in_transaction_session_timeout = '120s'")
        connection.autocommit = False
        return connection

    engine = create_engine(
        "postgresql+psycopg://",
        creator=read_only_connection,
        pool_size=_CONNECTIONS,
        max_overflow=_MORE_CONNECTIONS,
        pool_timeout=_WAIT_SECONDS,
    )
    look_before_use(engine)
    return engine
