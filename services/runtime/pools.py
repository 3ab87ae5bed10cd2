"""Pools of connections that are kept while a service runs, and what the server may have ended meanwhile."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

_USED = "used"


def look_before_use(engine: Engine) -> None:
    """Let every connection be looked at before it is handed out: where the server has ended it, all are made anew.

    In place of SQLAlchemy's ``pool_pre_ping``, which asks the server and waits for its answer each time. A server that
    ends a connection says so, and a peer that is gone without a word is found by the keep-alives of ``connect``.
    """

    @event.listens_for(engine, "checkout")
    def look(connection: psycopg.Connection[Any], kept: ConnectionPoolEntry, _proxy: object) -> None:
        # One that was just made is not looked at: where that fails, too, it is an outage, and its own error says so.
        # What is known of a connection is forgotten when it is made anew.
        if kept.info.get(_USED) and not _is_quiet(connection):
            raise InvalidatePoolError
        kept.info[_USED] = True


def _is_quiet(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing was sent to us, nor the connection ended: nobody was asked anything that could be answered."""
    if connection.closed:
        return False
    sent = select.poll()
    sent.register(connection.fileno(), select.POLLIN)
    return not sent.poll(0)
