"""Carries the registry's log to ``byok.registry-changes``: every change, in order, from the first that is not there.

One relay works at a time, by an advisory lock on a session of its own; others stand by. The cursor says how much of the
log which cluster has. A cluster it does not know gets the whole log again, in the same bytes: so does the embedded
broker, which forgets everything, after each of its starts.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import psycopg
from kafka.errors import KafkaError
from psycopg import Connection

from services.key_registry.log.sender import SEND_BYTES_MAX, ChangeSender, SendInterrupted, UnsentChange
from services.runtime.background import lead, patiently_until
from services.runtime.database import cannot_write, connect
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger
from services.runtime.settings import Settings

_log = logger(__name__)

_SERVICE = "key-registry-relay"
RELAY_LOCK = 4_270_002
"""The advisory lock of whoever relays. It only has to be ours; the fence of the same number is of another database."""
_CHANGES_MAX = 500
_CLUSTER_CHECK_SECONDS = 0.5

_Database = Connection[Any]


class _Cursor(NamedTuple):
    cluster_id: str | None
    sent_seq: int


class OutboxRelay:
    """Relays until it is stopped, whatever the database and the broker do meanwhile."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when BYOK_REGISTRY_DSN is not set."""
        self._dsn = settings.required("registry_dsn")
        self._bootstrap = settings.kafka_bootstrap
        self._timeout_seconds = settings.kafka_timeout_seconds
        self._interval_seconds = settings.outbox_interval_seconds
        self._caught_up = threading.Event()
        self._leading = threading.Event()
        self._trouble: str | None = None
        self._unwritable = LastFailure("keeping how far the log is sent")

    def run(self, stop: threading.Event) -> None:
        """Relay until ``stop`` is set; what is not acknowledged within seconds of it is sent by the next relay."""
        patiently_until(stop, partial(self._session, stop), self._failed)

    @property
    def leads(self) -> bool:
        """Whether this relay is the one that works."""
        return self._leading.is_set()

    def unready(self) -> str | None:
        """Why the broker may not have the log yet; once it had all of it since the start, whether a write fails."""
        if self._caught_up.is_set():
            return self._unwritable.unready()
        return f"the registry log is not on the broker yet ({self._trouble or 'still sending'})"

    def _failed(self, error: Exception) -> None:
        # Everything is waited out: a relay that ends without a word would leave prices stale for ever.
        expected = isinstance(error, (KafkaError, psycopg.Error, OSError))
        self._trouble = type(error).__name__
        if cannot_write(error):
            self._unwritable.happened(error)
        _log.warning(
            "relay interrupted",
            error=self._trouble,
            detail=str(error).partition("\n")[0],
            exc_info=None if expected else error,
        )

    def _session(self, stop: threading.Event) -> None:
        """Work with one connection to either side, until one of them fails or the relay is stopped."""
        with connect(self._dsn, _SERVICE, autocommit=True) as database:
            # The worst that losing the newest cursor can do is to send something twice.
            database.execute("SET synchronous_commit = off")
            sender = ChangeSender(self._bootstrap, timeout_seconds=self._timeout_seconds)
            stand_by = partial(self._stand_by, database, sender)
            try:
                if lead(database, RELAY_LOCK, stop, standing_by=stand_by, seconds=_CLUSTER_CHECK_SECONDS):
                    self._leading.set()
                    with suppress(SendInterrupted):
                        self._relay(database, sender, stop)
            finally:
                self._leading.clear()
                sender.close()

    def _stand_by(self, database: _Database, sender: ChangeSender) -> None:
        # What there is to write is another's business now.
        self._unwritable.over()
        cursor = _cursor(database)
        if cursor.cluster_id == sender.cluster_id() and not _unsent(database, cursor.sent_seq):
            self._caught_up.set()

    def _relay(self, database: _Database, sender: ChangeSender, stop: threading.Event) -> None:
        checked_at = float("-inf")
        sender.prepare()
        while not stop.is_set():
            cursor = _cursor(database)
            unsent = _unsent(database, cursor.sent_seq)
            if unsent or time.monotonic() - checked_at > _CLUSTER_CHECK_SECONDS:
                cluster_id, checked_at = sender.cluster_id(), time.monotonic()
                if why := _why_all_again(cluster_id, cursor, sender):
                    _log.warning("sending the whole log", why=why, cluster_id=cluster_id)
                    sender.start_over()
                    sender.prepare()
                    _reset(database, cluster_id)
                    continue
            if unsent:
                sender.send(unsent, stop)
                # Asked again: the cluster may have been another one by the time it acknowledged.
                _advance(database, cursor, sender.cluster_id(), unsent[-1].seq)
                self._unwritable.over()
            else:
                self._caught_up.set()
                stop.wait(self._interval_seconds)


def _why_all_again(cluster_id: str, cursor: _Cursor, sender: ChangeSender) -> str | None:
    if cluster_id != cursor.cluster_id:
        return "this cluster is new"
    return None if sender.is_alone() else "the topic ends with records of another relay, or has lost some"


def republish(settings: Settings) -> int:
    """Have the whole log sent again, in the same bytes; the number of changes in it.

    The running relay begins at once; without one, the next to start does. Raises psycopg.Error or SettingsError.
    """
    with connect(settings.required("registry_dsn"), _SERVICE) as database:
        _one(database, "UPDATE registry.relay_cursor SET sent_seq = 0, reset_at = clock_timestamp() RETURNING sent_seq")
        count: int = _one(database, "SELECT last_seq FROM registry.log_head")[0]
    return count


def _cursor(database: _Database) -> _Cursor:
    return _Cursor(*_one(database, "SELECT cluster_id, sent_seq FROM registry.relay_cursor"))


def _unsent(database: _Database, sent_seq: int) -> list[UnsentChange]:
    """What follows ``sent_seq``, as much as goes into one send. No gaps: commit order is the order of ``seq``."""
    changes: list[UnsentChange] = []
    size = 0
    statement = "SELECT seq, key, payload FROM registry.log WHERE seq > %s ORDER BY seq LIMIT %s"
    for row in database.execute(statement, (sent_seq, _CHANGES_MAX)):
        change = UnsentChange(*row)
        size += len(change.payload) + len(change.key)
        if changes and size > SEND_BYTES_MAX:
            break
        changes.append(change)
    return changes


def _advance(database: _Database, cursor: _Cursor, cluster_id: str, sent_seq: int) -> None:
    """Move the cursor, unless somebody reset it meanwhile or another cluster answered: then all is sent again."""
    database.execute(
        "UPDATE registry.relay_cursor SET sent_seq = %s WHERE sent_seq = %s AND cluster_id = %s",
        (sent_seq, cursor.sent_seq, cluster_id),
    )


def _reset(database: _Database, cluster_id: str) -> None:
    database.execute(
        "UPDATE registry.relay_cursor SET cluster_id = %s, sent_seq = 0, reset_at = clock_timestamp()", (cluster_id,)
    )


def _one(database: _Database, statement: Any, *parameters: Any) -> Any:
    row = database.execute(statement, parameters).fetchone()
    if row is None:
        raise LookupError("the registry database has lost a row that it must have")
    return row
