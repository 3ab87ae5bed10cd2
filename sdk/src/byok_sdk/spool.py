"""Events on disk, from before ``record`` returns until the ledger has them: one SQLite file of one slot.

An event waits (``code`` is null) or was set aside (``code`` says why). What the ledger has is deleted. The two numbers
in ``totals`` are changed in the transactions that add and delete, so accepted = acknowledged + set aside + waiting
after any crash.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from byok_sdk.delivery import SetAside, Waiting
from byok_sdk.errors import NotRecordedError, SpoolFullError
from byok_sdk.forking import no_fork
from byok_sdk.settings import Durability

_VERSION = 1
_TABLES = """
CREATE TABLE event (
  row INTEGER PRIMARY KEY AUTOINCREMENT,
  recorded_at REAL NOT NULL,
  due REAL NOT NULL DEFAULT 0,
  body BLOB NOT NULL,
  code TEXT,
  detail TEXT
);
CREATE INDEX event_waits ON event (row) WHERE code IS NULL;
CREATE TABLE totals (accepted INTEGER NOT NULL, acknowledged INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
"""
# ``due`` is by the clock of this machine, which may be set back: nothing is held longer than this.
_HELD_SECONDS_MAX = 7200.0
_DETAIL_MAX = 300


class Counts(NamedTuple):
    """What became of the events. accepted = acknowledged + rejected + waiting, always."""

    accepted: int = 0
    acknowledged: int = 0
    rejected: int = 0
    """Set aside; they are kept, and shown by ``byok-sdk status``."""
    waiting: int = 0
    held_bytes: int = 0
    """Of those that wait or were set aside."""
    oldest_waiting: float | None = None
    """When the oldest that waits was recorded, in seconds since 1970."""

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing, and nothing is there twice."""
        return self.accepted == self.acknowledged + self.rejected + self.waiting


class _Adding:
    """An event that a thread has brought, and what became of it."""

    __slots__ = ("body", "outcome")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.outcome: NotRecordedError | Literal[True] | None = None


class Spool:
    """The events of one slot. Any thread may use it; whoever opens it holds the slot."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "fsync",
        events_max: int = 500_000,
        bytes_max: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises NotRecordedError where the file cannot be opened or is none of ours."""
        self._clock = clock
        self._events_max, self._bytes_max = events_max, bytes_max
        # The first is for the file, the second for the numbers below; who needs both takes the first first.
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._adding: list[_Adding] = []
        try:
            with no_fork():
                self._connection = _open(path, durability)
                counts = _counts(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise NotRecordedError(f"the spool {path.name} cannot be opened: {error}") from error
        self._held_events, self._held_bytes = counts.rejected + counts.waiting, counts.held_bytes
        self._waiting = counts.waiting
        self.added = 0
        """How many were added since it was opened."""

    def add(self, body: bytes, *, patience: float = 0.0) -> None:
        """Return when the event is as safe as the durability says.

        Raises SpoolFullError where there is no room for ``patience`` seconds, and NotRecordedError where the disk is
        full or fails: then the event is not recorded.
        """
        mine = _Adding(body)
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(len(body)), patience):
                raise SpoolFullError(f"{self._held_events} events wait or were set aside; the event is not recorded")
            self._held_events += 1
            self._held_bytes += len(body)
            self._adding.append(mine)
        with self._writing:
            # Whoever wrote meanwhile wrote all that was there: threads share what a disk takes longest for.
            if mine.outcome is None:
                self._add_all()
        if mine.outcome is not True:
            raise NotRecordedError(str(mine.outcome)) from mine.outcome

    def due(self, events_max: int, bytes_max: int) -> list[Waiting]:
        """The oldest that are due, together at most so many and so large; at least one, if any is due."""
        now = self._clock()
        query = """SELECT row, body FROM event WHERE code IS NULL AND (due <= ? OR due > ?) ORDER BY row LIMIT ?"""
        batch: list[Waiting] = []
        with self._writing, no_fork():
            for row, body in self._connection.execute(query, (now, now + _HELD_SECONDS_MAX, events_max)):
                if batch and bytes_max < len(body):
                    break
                # One more for the comma.
                bytes_max -= len(body) + 1
                batch.append(Waiting(row, body))
        return batch

    def settle(self, acknowledged: Sequence[int], rejected: Sequence[SetAside] = ()) -> None:
        """Forget what the ledger has, and set aside what it refused, together. Raises NotRecordedError."""
        with self._writing, self._written() as connection:
            freed = sum(_delete(connection, row) for row in acknowledged)
            connection.execute("UPDATE totals SET acknowledged = acknowledged + ?", (len(acknowledged),))
            for aside in rejected:
                text = "UPDATE event SET code = ?, detail = ?, due = ? WHERE row = ?"
                connection.execute(text, (aside.code, aside.detail[:_DETAIL_MAX], self._clock(), aside.row))
        self._count(held=-len(acknowledged), held_bytes=-freed, waiting=-len(acknowledged) - len(rejected))

    def hold(self, rows: Iterable[int], seconds: float) -> None:
        """Leave them waiting, and not due for a while. Raises NotRecordedError."""
        due = self._clock() + min(seconds, _HELD_SECONDS_MAX)
        with self._writing, self._written() as connection:
            for row in rows:
                connection.execute("UPDATE event SET due = ? WHERE row = ?", (due, row))

    def put_back(self, codes: Sequence[str] | None = None, *, older_than: float = 0.0) -> int:
        """Let wait again what was set aside for one of ``codes`` (None: any), so many seconds ago; how many."""
        marks = "" if codes is None else f" AND code IN ({','.join('?' * len(codes))})"
        text = f"UPDATE event SET code = NULL, detail = NULL, due = 0 WHERE code IS NOT NULL AND due <= ?{marks}"
        with self._writing, self._written() as connection:
            count = connection.execute(text, (self._clock() - older_than, *(codes or ()))).rowcount
        self._count(waiting=count)
        return count

    def wait(self, seconds: float, until: Callable[[], bool]) -> bool:
        """Wait for ``until``, which is asked whenever something was added or settled, or somebody calls ``wake``."""
        with self._changed:
            return self._changed.wait_for(until, seconds)

    def wake(self) -> None:
        """Let who waits look again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many the ledger has not acknowledged and not refused."""
        return self._waiting

    def counts(self) -> Counts:
        """What became of all events that were ever in this slot."""
        with self._writing, no_fork():
            return _counts(self._connection)

    def close(self) -> None:
        """Let go of the file; what waits in it stays."""
        with self._writing, no_fork():
            self._connection.close()

    def _has_room(self, size: int) -> bool:
        return self._held_events < self._events_max and self._held_bytes + size <= self._bytes_max

    def _count(self, *, held: int = 0, held_bytes: int = 0, waiting: int = 0, added: int = 0) -> None:
        with self._changed:
            self._held_events += held
            self._held_bytes += held_bytes
            self._waiting += waiting
            self.added += added
            self._changed.notify_all()

    def _add_all(self) -> None:
        """Write what threads have brought so far, all of it or nothing, and tell each."""
        with self._changed:
            adding, self._adding = self._adding, []
        outcome: NotRecordedError | Literal[True] = NotRecordedError("writing the spool was interrupted")
        try:
            with self._written() as connection:
                rows = [(self._clock(), each.body) for each in adding]
                connection.executemany("INSERT INTO event (recorded_at, body) VALUES (?, ?)", rows)
                connection.execute("UPDATE totals SET accepted = accepted + ?", (len(adding),))
            outcome = True
        except NotRecordedError as error:
            outcome = error
        finally:
            for each in adding:
                each.outcome = outcome
            if outcome is True:
                self._count(waiting=len(adding), added=len(adding))
            else:
                self._count(held=-len(adding), held_bytes=-sum(len(each.body) for each in adding))

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """One transaction, whole or not at all."""
        connection = self._connection
        with no_fork():
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise NotRecordedError(f"the spool cannot be written: {error}") from error
                raise


def read_counts(path: Path) -> Counts:
    """The counts of a slot that another process may hold. Raises NotRecordedError where it cannot be read."""
    try:
        with _shared(path) as connection:
            # A process that died at once left a file without tables.
            return _counts(connection) if _version(connection) else Counts()
    except sqlite3.Error as error:
        raise NotRecordedError(f"the spool {path.name} cannot be read: {error}") from error


def read_set_aside(path: Path, limit: int) -> list[tuple[str, str, bytes]]:
    """Code, detail and bytes of what was set aside in a slot, the oldest first."""
    with _shared(path) as connection:
        text = "SELECT code, detail, body FROM event WHERE code IS NOT NULL ORDER BY row LIMIT ?"
        return connection.execute(text, (limit,)).fetchall() if _version(connection) else []


@contextmanager
def _shared(path: Path) -> Iterator[sqlite3.Connection]:
    with no_fork():
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()


def _open(path: Path, durability: Durability) -> sqlite3.Connection:
    # SQLite gives the files beside it the rights of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    version = _version(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'fsync' else 'NORMAL'}")
    if not version:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        if durability == "fsync":
            _sync_folder(path.parent)
    # What was held was held by the clock of a process that is gone.
    connection.execute("UPDATE event SET due = 0 WHERE code IS NULL AND due <> 0")
    return connection


def _delete(connection: sqlite3.Connection, row: int) -> int:
    """How many bytes of it were held."""
    (size,) = connection.execute("SELECT length(body) FROM event WHERE row = ?", (row,)).fetchone()
    connection.execute("DELETE FROM event WHERE row = ?", (row,))
    return int(size)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"it is of version {version}, and this release knows {_VERSION}")
    return int(version)


def _sync_folder(folder: Path) -> None:
    """That the file has its name there is on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _counts(connection: sqlite3.Connection) -> Counts:
    text = """SELECT accepted, acknowledged, count(event.code), count(event.row) - count(event.code),
                     coalesce(sum(length(event.body)), 0), min(CASE WHEN event.code IS NULL THEN recorded_at END)
              FROM totals LEFT JOIN event ON true GROUP BY accepted, acknowledged"""
    return Counts(*connection.execute(text).fetchone())
