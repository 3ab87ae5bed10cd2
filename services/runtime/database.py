"""Connections to PostgreSQL: UTC, a name that operators see, and no statement that can hang for ever on a dead peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import Connection

_TIMEOUT_SECONDS = 5
_TRANSACTION_SECONDS = 30
# A peer that vanished without a word is noticed within half a minute; either side looks for itself.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_SERVER_KEEPALIVE = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


def _options(service: str) -> dict[str, Any]:
    return {
        "application_name": f"byok-{service}",
        "connect_timeout": _TIMEOUT_SECONDS,
        "options": f"-c timezone=UTC {_SERVER_KEEPALIVE}",
        "tcp_user_timeout": 30_000,
        **_KEEPALIVE,
    }


def connect(
    dsn: str,
    service: str,
    *,
    autocommit: bool = False,
    idle_seconds: int | None = None,
    silent_seconds: int | None = None,
) -> Connection[Any]:
    """One connection. Raises psycopg.OperationalError when the database cannot be reached.

    With ``idle_seconds`` the server ends it when nothing is asked for so long in the middle of a transaction, or when
    one takes more than half a minute, for a server that waits for the rest of a statement is not idle; with
    ``silent_seconds``, when nothing is asked outside of one. Neither the locks nor the leadership of a process that is
    stopped must hold up those that could take over its work.
    """
    options = _options(service)
    if idle_seconds is not None:
        options["options"] += f" -c idle_in_transaction_session_timeout={idle_seconds}s"
        options["options"] += f" -c transaction_timeout={_TRANSACTION_SECONDS}s"
    if silent_seconds is not None:
        options["options"] += f" -c idle_session_timeout={silent_seconds}s"
    return psycopg.connect(dsn, autocommit=autocommit, **options)


def arrays(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """The rows as ``unnest`` takes them: a list for each of their columns. There must be one row at least."""
    return [list(column) for column in zip(*rows, strict=True)]


def cannot_write(error: BaseException | None) -> bool:
    """Whether the database takes no writes: its disk is full or broken, or it is a standby. Reads may well succeed."""
    state = getattr(error, "sqlstate", None) or ""
    return state[:2] == "58" or state in {"53100", "25006"}


def is_outage(error: Exception) -> bool:
    """Whether the surroundings failed (so that trying again can help), and not the statement or its data."""
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    # Connection, resources, operator intervention, system error; serialization failure and deadlock; read-only standby;
    # idle for too long in a transaction, or too long a one.
    return state[:2] in {"08", "53", "57", "58", "40", "55"} or state in {"25006", "25P03", "25P04"}
