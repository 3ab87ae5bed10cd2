"""Carries the registry's log to ``byok.registry-changes``: every change, in order, from the first that is not there.

One relay works at a time, by an advisory lock on a session of its own; others stand by. The cursor says how much of the
log which cluster has. A cluster it does not know gets the whole log again, in the same bytes: so does the embedded
broker, which forgets everything, after each of its starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

import psycopg
from kafka.errors import KafkaError
from psycopg import Connection

from schemas.topics import REGISTRY_CHANGES
from services.key_registry.log.comparison import compare_with_ledger, compare_with_topic
from services.key_registry.log.sender import SEND_BYTES_MAX, ChangeSender, Destination, SendInterrupted, UnsentChange
from services.key_registry.rules.completeness import Completeness, LogBehindError
from services.key_registry.settings import RegistrySettings
from services.runtime.background import lead, patiently_until
from services.runtime.broker_refusals import cause
from services.runtime.database import cannot_write, connect
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger
from services.runtime.topics import TopicMissingError, warn_of_differences

_log = logger(__name__)

_SERVICE = "key-registry-relay"
RELAY_LOCK = 4_270_002
"""The advisory lock of whoever relays. It only has to be ours; the fence of the same number is of another database."""
_CHANGES_MAX = 500
_CLUSTER_CHECK_SECONDS = 0.5
_BEGIN_SECONDS_MAX = 3.0

_Database = Connection[Any]


class _Cursor(NamedTuple):
    cluster_id: str | None
    topic_id: str | None
    """None where a former release sent last, which did not ask."""
    sent_seq: int
    end_offset: int | None

    def goes_to(self, destination: Destination) -> bool:
        return self.cluster_id == destination.cluster_id and self.topic_id in (None, destination.topic_id)


class OutboxRelay:
    """Relays until it is stopped, whatever the database and the broker do meanwhile."""

    def __init__(
        self,
        settings: RegistrySettings,
        completeness: Completeness | None = None,
        confirmed: Callable[[], object] = lambda: None,
    ) -> None:
        """``completeness`` is told what is found out, ``confirmed`` called where the log is whole, before it is sent.

        With BYOK_LEDGER_DSN the ledger is asked, too.
        """
        self.completeness = completeness or Completeness()
        self._confirmed = confirmed
        self._dsn = settings.registry_dsn.get_secret_value()
        self._ledger_dsn = None if settings.ledger_dsn is None else settings.ledger_dsn.get_secret_value()
        self._kafka = settings.kafka
        self._timeout_seconds = settings.kafka_timeout_seconds
        self._interval_seconds = settings.outbox_interval_seconds
        self._caught_up = threading.Event()
        self._leading = threading.Event()
        self._trouble: str | None = None
        self._unwritable = LastFailure("keeping how far the log is sent")
        self._unreachable = LastFailure("reaching the broker, where changes of keys, plans and prices wait to go,")

    def begin(self) -> None:
        """Compare the log with what others have of it, before anybody asks for anything.

        A broker that does not answer within seconds is asked later on. Raises LogBehindError or psycopg.Error.
        """
        with connect(self._dsn, _SERVICE, autocommit=True) as database:
            self._compare_without_topic(database)
            try:
                timeout = min(self._timeout_seconds, _BEGIN_SECONDS_MAX)
                with closing(ChangeSender(self._kafka, timeout_seconds=timeout)) as sender:
                    self._compare(database, sender)
            except KafkaError as error:
                _log.warning("the log cannot be compared with the topic yet", error=type(error).__name__)

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

    def impaired(self) -> str | None:
        """Why changes wait, once the broker had all of them."""
        return self._unreachable.unready() if self._caught_up.is_set() else None

    def _failed(self, error: Exception) -> None:
        # Everything is waited out: a relay that ends without a word would leave prices stale for ever.
        expected = isinstance(error, (KafkaError, psycopg.Error, OSError, LogBehindError))
        said = isinstance(error, (TopicMissingError, LogBehindError))
        self._trouble = str(error) if said else cause(error)
        if isinstance(error, LogBehindError):
            self.completeness.deny(error)
        elif isinstance(error, psycopg.Error):
            self.completeness.doubt()
        if cannot_write(error):
            self._unwritable.happened(error)
        elif not isinstance(error, psycopg.Error):
            self._unreachable.happened(error)
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
            self._compare_without_topic(database)
            sender = ChangeSender(self._kafka, timeout_seconds=self._timeout_seconds)
            stand_by = partial(self._stand_by, database, sender)
            try:
                self._compare(database, sender)
                self._confirmed()
                if lead(database, RELAY_LOCK, stop, standing_by=stand_by, seconds=_CLUSTER_CHECK_SECONDS):
                    self._leading.set()
                    # Whoever led before may have been another registry, or this one's database another.
                    self._compare(database, sender)
                    with suppress(SendInterrupted):
                        self._relay(database, sender, stop)
            finally:
                self._leading.clear()
                sender.close()

    def _compare_without_topic(self, database: _Database) -> None:
        if self._ledger_dsn is not None:
            compare_with_ledger(database, self._ledger_dsn)
        if _cursor(database).cluster_id is None:
            self.completeness.presume()

    def _compare(self, database: _Database, sender: ChangeSender) -> None:
        """What the cursor has behind it was compared before it was sent, on this topic."""
        cursor = _cursor(database)
        known = cursor.end_offset if cursor.goes_to(sender.destination()) else None
        with closing(sender.records_from(known or 0)) as records:
            compare_with_topic(database, records)
        self.completeness.confirm()

    def _compare_what_is_new(self, database: _Database, sender: ChangeSender) -> None:
        # Another relay of this registry, or another registry: then whoever stands by must change nothing, either.
        if sender.has_more():
            self._compare(database, sender)

    def _stand_by(self, database: _Database, sender: ChangeSender) -> None:
        # What there is to write is another's business now.
        self._unwritable.over()
        cursor = _cursor(database)
        destination = sender.destination()
        self._unreachable.over()
        self._compare_what_is_new(database, sender)
        if cursor.goes_to(destination) and not _unsent(database, cursor.sent_seq):
            self._caught_up.set()

    def _relay(self, database: _Database, sender: ChangeSender, stop: threading.Event) -> None:
        checked_at = float("-inf")
        warn_of_differences(self._kafka, [REGISTRY_CHANGES])
        while not stop.is_set():
            cursor = _cursor(database)
            unsent = _unsent(database, cursor.sent_seq)
            if unsent or time.monotonic() - checked_at > _CLUSTER_CHECK_SECONDS:
                destination, checked_at = sender.destination(), time.monotonic()
                self._unreachable.over()
                self._compare_what_is_new(database, sender)
                if why := _why_all_again(destination, cursor, sender):
                    self._compare(database, sender)
                    _log.warning("sending the whole log", why=why, **destination._asdict())
                    sender.start_over()
                    _reset(database, destination)
                    continue
                if cursor.topic_id is None:
                    _advance(database, cursor, destination, cursor.sent_seq, None)
            if unsent:
                sender.send(unsent, stop)
                # Asked again: the cluster may have been another one by the time it acknowledged.
                _advance(database, cursor, sender.destination(), unsent[-1].seq, sender.end_offset)
                self._unwritable.over()
            else:
                self._caught_up.set()
                stop.wait(self._interval_seconds)


def _why_all_again(destination: Destination, cursor: _Cursor, sender: ChangeSender) -> str | None:
    if destination.cluster_id != cursor.cluster_id:
        return "this cluster is new"
    if not cursor.goes_to(destination):
        return "the topic was made anew"
    if not sender.is_alone():
        return "the topic ends with records of another relay, or has lost some"
    # What this sender did not send itself: what was lost while no relay was there to see it.
    if sender.end_offset is None and cursor.end_offset is not None and not sender.reaches(cursor.end_offset):
        return "the topic has lost records"
    return None


def republish(registry_dsn: str) -> int:
    """Have the whole log sent again, in the same bytes; the number of changes in it.

    The running relay begins at once; without one, the next to start does. Raises psycopg.Error.
    """
    with connect(registry_dsn, _SERVICE) as database:
        _one(database, "UPDATE registry.relay_cursor SET sent_seq = 0, reset_at = clock_timestamp() RETURNING sent_seq")
        count: int = _one(database, "SELECT last_seq FROM registry.log_head")[0]
    return count


def _cursor(database: _Database) -> _Cursor:
    return _Cursor(*_one(database, "SELECT cluster_id, topic_id, sent_seq, end_offset FROM registry.relay_cursor"))


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


def _advance(
    database: _Database, cursor: _Cursor, destination: Destination, sent_seq: int, end_offset: int | None
) -> None:
    """Move the cursor, unless somebody reset it meanwhile or another topic answered: then all is sent again."""
    if cursor.goes_to(destination):
        database.execute(
            """UPDATE registry.relay_cursor SET sent_seq = %s, topic_id = %s, end_offset = coalesce(%s, end_offset)
               WHERE sent_seq = %s AND cluster_id = %s""",
            (sent_seq, destination.topic_id, end_offset, cursor.sent_seq, destination.cluster_id),
        )


def _reset(database: _Database, destination: Destination) -> None:
    database.execute(
        """UPDATE registry.relay_cursor
           SET cluster_id = %s, topic_id = %s, sent_seq = 0, end_offset = NULL, reset_at = clock_timestamp()""",
        destination,
    )


def _one(database: _Database, statement: Any, *parameters: Any) -> Any:
    row = database.execute(statement, parameters).fetchone()
    if row is None:
        raise LookupError("the registry database has lost a row that it must have")
    return row
