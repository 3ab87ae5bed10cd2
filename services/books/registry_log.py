"""The ledger's copy of the registry log: appended to, read on, and folded (docs/design.md, decision 3).

A change may come after later ones, when a topic that had lost it is sent again. So whoever follows the log goes on by
the order in which changes came, their ``arrival``; what counts is the newest ``seq`` of each subject, whatever came
first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import args_row

from schemas.registry_changes import RegistryChange
from services.books.locks import APPEND
from services.domain.directory import Change, Directory
from services.messages.registry_changes import read_change, to_change
from services.runtime.database import arrays

_FETCHED_ROWS = 1_000

NEWEST = "(SELECT coalesce(max(seq), 0) FROM ledger.registry_change)"
"""The number of the newest change, 0 where there is none, as a part of a statement."""
_SELECT = "SELECT seq, key, payload, arrival FROM ledger.registry_change"
AFTER = f"{_SELECT} WHERE arrival > %(arrival)s ORDER BY arrival"
"""What came after a change, in the order in which it came."""
NAMED = f"{_SELECT} WHERE seq = ANY(%(seqs)s)"
"""The changes with these numbers."""
AS_OF = """
SELECT DISTINCT ON (key) seq, key, payload, arrival FROM ledger.registry_change
WHERE key = ANY(%(keys)s) AND seq <= %(seq)s ORDER BY key, seq DESC
"""
"""Of each of these registry keys the last change up to a number."""
_NEWEST = f"{_SELECT} ORDER BY seq DESC LIMIT 1"
_UPTO = f"{_SELECT} WHERE %(seq)s::bigint IS NULL OR seq <= %(seq)s ORDER BY seq"
# Of every key that changed after one number and up to another: what it said at the first, and all that it said since.
_STATES = """
SELECT c.seq, c.key, c.payload, c.arrival FROM ledger.registry_change c
WHERE c.key IN (SELECT key FROM ledger.registry_change WHERE seq > %(after)s AND seq <= %(upto)s)
  AND c.seq <= %(upto)s AND c.seq >= coalesce(
    (SELECT max(b.seq) FROM ledger.registry_change b WHERE b.key = c.key AND b.seq <= %(after)s), 0)
ORDER BY c.key, c.seq
"""
# Their arrivals are given out in the order in which they are given.
_INSERT = """
INSERT INTO ledger.registry_change (seq, key, payload)
SELECT seq, key, payload FROM unnest(%s::bigint[], %s::text[], %b::bytea[])
  WITH ORDINALITY AS new (seq, key, payload, place) ORDER BY place
ON CONFLICT DO NOTHING RETURNING seq
"""
_UNKNOWN = """
SELECT ours.place - 1, ours.seq, known.seq IS NOT NULL FROM unnest(%s::bigint[], %b::bytea[])
  WITH ORDINALITY AS ours (seq, payload, place) LEFT JOIN ledger.registry_change known USING (seq)
WHERE known.payload IS DISTINCT FROM ours.payload ORDER BY place
"""
# The first of the changes that came after later ones and say more of their subject than was known. Where the topic was
# compacted before it was read, an older state of a subject is missing, too: nobody needs it.
_FIRST_LATE = """
SELECT min(n.seq) FROM ledger.registry_change n
WHERE n.seq = ANY(%(late)s)
  AND NOT EXISTS (SELECT FROM ledger.registry_change newer WHERE newer.key = n.key AND newer.seq > n.seq)
"""
# Always to less, so that a re-rater that is at work sees that it has to look again.
_SET_BACK = "UPDATE ledger.fence SET rerated_seq = least(rerated_seq, %s) - 1"


class RegistryForkedError(Exception):
    """Two different changes carry one ``seq``: there are two registries, or one lost its history. Nobody may go on."""


class Recorded(NamedTuple):
    """One registry change as the ledger keeps it, in the bytes that were read."""

    seq: int
    key: str
    payload: bytes
    arrival: int


def append(connection: Connection[Any], changes: Iterable[tuple[int, str, bytes]]) -> None:
    """Append those that are not there yet, each as ``seq``, key and payload, in the transaction that is open.

    Where one fills a hole below what is known, the re-rater works off again from there. Raises RegistryForkedError.
    """
    new = list(changes)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND,))
    (known,) = connection.execute(f"SELECT {NEWEST}").fetchone() or (0,)
    added = [seq for (seq,) in connection.execute(_INSERT, arrays(new))]
    if len(added) < len(new):
        unknown(connection, [(seq, payload) for seq, _key, payload in new])
    if late := [seq for seq in added if seq < known]:
        (first,) = connection.execute(_FIRST_LATE, {"late": late}).fetchone() or (None,)
        if first is not None:
            set_back(connection, first)


def unknown(connection: Connection[Any], changes: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Of changes, each as ``seq`` and payload, the payloads that are not there yet. Raises RegistryForkedError."""
    found = []
    for index, seq, is_another in connection.execute(_UNKNOWN, arrays(changes)):
        if is_another:
            raise RegistryForkedError(
                f"registry change {seq} differs from the one that the ledger was priced with; "
                "is this the ledger of another registry, or was the registry restored from an old backup?"
            )
        found.append(changes[index][1])
    return found


def set_back(connection: Connection[Any], late: int) -> None:
    """Have what was priced without the change ``late`` looked at again."""
    connection.execute(_SET_BACK, (late,))


class FoldedLog:
    """A directory, and how much of the log is in it. Other readers of the directory must not be at work meanwhile; who
    reads it in another thread takes a copy."""

    def __init__(self, directory: Directory | None = None) -> None:
        """Nothing is in it yet; ``directory`` is one that others have, too."""
        self.directory = Directory() if directory is None else directory
        self.arrival = 0
        """Of the last change that was taken in: go on after it."""
        self._taking_in = threading.Lock()

    def take_in(self, change: Recorded) -> RegistryChange | None:
        """Fold in one change; what it says, or None where as much of its subject is known.

        Raises UnreadableChangeError: it can move prices, so nobody may go on without it.
        """
        message = read_change(change.payload)
        return message if self.apply(change, to_change(message)) else None

    def apply(self, change: Recorded, what: Change) -> bool:
        """The same with a change that was read before; False where as much of its subject is known."""
        with self._taking_in:
            is_news = self.directory.apply(change.seq, what)
            self.arrival = change.arrival
        return is_news

    def copy(self) -> FoldedLog:
        """The same, to go on by itself, in any thread. What is known already is not held twice."""
        with self._taking_in:
            copied = FoldedLog(self.directory.copy())
            copied.arrival = self.arrival
        return copied


def fold(changes: Iterable[Recorded]) -> Directory:
    """The directory that the changes amount to, in whatever order. Raises UnreadableChangeError."""
    log = FoldedLog()
    for change in changes:
        log.take_in(change)
    return log.directory


def after(connection: Connection[Any], arrival: int) -> Iterator[Recorded]:
    """What came after a change, in the order in which it came."""
    return _streamed(connection, AFTER, {"arrival": arrival}, hold=True)


def recorded(connection: Connection[Any], seq: int | None = None) -> Iterator[Recorded]:
    """The log in the order of its numbers, all of it or as far as ``seq``. Must be read inside a transaction."""
    return _streamed(connection, _UPTO, {"seq": seq})


def newest(connection: Connection[Any]) -> Recorded | None:
    """The change with the highest number; None where there is none."""
    with connection.cursor(row_factory=args_row(Recorded)) as cursor:
        return cursor.execute(_NEWEST, binary=True).fetchone()


def upto(connection: Connection[Any], seq: int | None = None) -> Iterator[tuple[int, Change]]:
    """What ``recorded`` says. Raises UnreadableChangeError."""
    for change in recorded(connection, seq):
        yield change.seq, to_change(read_change(change.payload))


def directory_upto(connection: Connection[Any], seq: int | None = None) -> Directory:
    """What all of the log, or as far as ``seq``, amounts to. Raises as ``upto`` does, and needs a transaction, too."""
    return fold(recorded(connection, seq))


def states(connection: Connection[Any], after: int, upto: int) -> Iterator[Recorded]:
    """Of every key that changed after one number and up to another all its states from the first on, key by key."""
    return _streamed(connection, _STATES, {"after": after, "upto": upto}, hold=True)


def _streamed(
    connection: Connection[Any], query: str, parameters: Mapping[str, Any], *, hold: bool = False
) -> Iterator[Recorded]:
    """A thousand at a time. ``hold``: in any transaction or in none, and all as of the beginning."""
    with connection.cursor("registry_log", row_factory=args_row(Recorded), withhold=hold) as cursor:
        cursor.itersize = _FETCHED_ROWS
        yield from cursor.execute(query, parameters, binary=True)
