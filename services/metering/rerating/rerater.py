"""Convergence: late knowledge is worked into the ledger by reversals and corrections (docs/design.md, decision 6).

One re-rater works at a time. It raises the fence first, so that from then on no worker books with less than it knows;
then, in new transactions, it goes through the entries that a change can have moved, chunk by chunk. Killed between any
two statements it starts the change again: what is corrected already is left as it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row

from services.books import columns, registry_log
from services.books import totals as count
from services.books.entry_rows import entry_of
from services.books.locks import FENCE, RERATER
from services.books.registry_log import FoldedLog, Recorded
from services.books.totals import Totals
from services.domain.directory import Change
from services.domain.entries import Entry, reprice
from services.domain.model_prices import UnpricedError
from services.domain.rating import rate
from services.domain.windows import Touched, touched
from services.messages.registry_changes import read_change, to_change
from services.metering.booking.ledger_writer import IDLE_SECONDS, add_totals
from services.metering.rerating.revisions import Revision, write_revisions
from services.metering.rerating.unrated import Unrated, Why, set_aside, settle
from services.runtime.background import lead, patiently_until
from services.runtime.database import connect, is_outage
from services.runtime.last_failure import LastFailure
from services.runtime.logs import logger

_log = logger(__name__)

_INTERVAL_SECONDS = 0.2
_CHUNK = 1_000
_SAYING_SECONDS = 5.0
_SPEAK_SECONDS = 0.5
_SHARD = -1
"""The re-rater's own shard of the metric totals."""

# Another re-rater's revision is no fault of the data, and means that everything has to be looked at again.
_REFUSED_DATA = (psycopg.DataError, psycopg.errors.CheckViolation)

_SELECTED = columns.listed(columns.BOOKED, "e")
# The chunks are read in the order of an index. On a table that grows fast the planner's statistics are old, and what it
# takes for the better plan is one that reads the whole table for each chunk: measured, minutes instead of seconds.
_KEEP_TO_THE_INDEX = "SET enable_seqscan = off; SET enable_bitmapscan = off"


class Cause(NamedTuple):
    """The change that is worked off: its number, its kind, and the entries it can have moved."""

    seq: int
    kind: str
    touched: tuple[Touched, ...]


class Rerater:
    """Works late changes off, for as long as it is the one that does."""

    def __init__(self, ledger_dsn: str, known: Callable[[], FoldedLog] = FoldedLog) -> None:
        """Keeps a directory of its own, built from the ledger's copy of the registry log.

        ``known`` gives what somebody has read of it already; it is asked when there is something to work off.
        """
        self._dsn = ledger_dsn
        self._known = known
        self._begun: FoldedLog | None = None
        self.failure = LastFailure("re-rating")
        """Whether the last step failed, and is tried again."""

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; waits for a database that is away, and for its turn."""
        patiently_until(stop, partial(self._session, stop), self._failed)

    def _session(self, stop: threading.Event) -> None:
        with closing(_session(self._dsn)) as connection:
            # While it is another's work, so is what fails in it.
            if not lead(connection, RERATER, stop, standing_by=self.failure.over):
                return
            while not stop.is_set():
                self.step(connection, stop)
                self.failure.over()
                stop.wait(_INTERVAL_SECONDS)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, psycopg.Error):
            raise error
        self.failure.happened(error)
        # Another re-rater's revision is no error either: it means that this one has to look again.
        level = "warning" if is_outage(error) or isinstance(error, psycopg.IntegrityError) else "error"
        getattr(_log, level)("re-rating starts again", error=type(error).__name__, sqlstate=error.sqlstate)

    def step(self, connection: Connection[Any], stop: threading.Event) -> None:
        """Work off every change that is known by now and not yet worked off."""
        known, rerated = _progress(connection)
        if known <= rerated:
            return
        for change in _speaking(connection, registry_log.after(connection, self._log.arrival)):
            self._log.take_in(change)
        head = self._log.directory.seq
        causes = self._causes(connection, rerated, head)
        _raise_fence(connection, head)
        for cause in causes:
            for where in cause.touched:
                corrected, first = self._rerate(connection, cause, where, head, stop)
                if stop.is_set():
                    return
                if first is not None:
                    _log.info(
                        "late change worked off",
                        seq=cause.seq,
                        kind=cause.kind,
                        corrected=corrected,
                        first=_named(first),
                    )
        # Not where it was set back meanwhile, for a change that came late into the log: then there is more to do.
        connection.execute("UPDATE ledger.fence SET rerated_seq = %s WHERE rerated_seq = %s", (head, rerated))

    @property
    def _log(self) -> FoldedLog:
        if self._begun is None:
            self._begun = self._known()
        return self._begun

    def _causes(self, connection: Connection[Any], rerated: int, head: int) -> list[Cause]:
        """What changed since the last time, each registry key once: from every state since then to its state now.

        A state that came and went in between counts too: workers may have priced with it, and once it is taken back,
        nothing differs between then and now.
        """
        causes = []
        found = _speaking(connection, registry_log.states(connection, rerated, head))
        for _key, states in groupby(found, key=attrgetter("key")):
            *passed, message = [read_change(state.payload) for state in states]
            before: list[Change | None] = [to_change(state) for state in passed]
            if not passed or passed[0].seq > rerated:
                before.insert(0, None)
            after = to_change(message)
            where = (each for state in before for each in touched(state, after, self._log.directory.cards))
            causes.append(Cause(message.seq, message.kind, tuple(dict.fromkeys(where))))
        return sorted(causes, key=attrgetter("seq"))

    def _rerate(
        self, connection: Connection[Any], cause: Cause, where: Touched, head: int, stop: threading.Event
    ) -> tuple[int, Entry | None]:
        """How many entries were corrected, and the first of them."""
        corrected, first, said_at = 0, None, time.monotonic()
        for chunk in _chunks(connection, where, head):
            done = self._correct(connection, cause, chunk, head)
            corrected, first = corrected + len(done), first or next(iter(done), None)
            if time.monotonic() - said_at > _SAYING_SECONDS:
                said_at, upto = time.monotonic(), chunk[-1].event.occurred_at.isoformat()
                _log.info("re-rating goes on", seq=cause.seq, kind=cause.kind, corrected=corrected, upto=upto)
            if stop.is_set():
                break
        return corrected, first

    def _correct(self, connection: Connection[Any], cause: Cause, chunk: list[Entry], head: int) -> list[Entry]:
        """Those of the entries that were corrected."""
        revisions: list[Revision] = []
        unrated: list[Unrated] = []
        for entry in chunk:
            try:
                pair = reprice(entry, rate(entry.event, self._log.directory), head)
            except UnpricedError as error:
                # No price is guessed: the entry stands, and we say so.
                unrated.append(Unrated(entry.entry_id, Why.NO_PRICE, str(error)))
                continue
            if pair is not None:
                revisions.append(Revision(entry, *pair))
        refused = _write(connection, cause, revisions)
        unrated += refused
        if unrated:
            first = unrated[0]._asdict() | _named(next(each for each in chunk if each.entry_id == unrated[0].entry_id))
            _log.error(
                "entries cannot be rated anew, and stand as they are",
                entries=len(unrated),
                first=first,
                seq=cause.seq,
                kind=cause.kind,
            )
        set_aside(connection, unrated, cause.seq)
        settle(connection, {entry.entry_id for entry in chunk} - {each.entry_id for each in unrated})
        stand = {each.entry_id for each in refused}
        return [revision.old for revision in revisions if revision.old.entry_id not in stand]


def _named(entry: Entry) -> dict[str, str]:
    """The entry, and the event that it books, as log lines name them."""
    org_id, source, event_id = entry.event.identity
    return {"entry_id": str(entry.entry_id), "organization": org_id, "source": source, "id": event_id}


def _write(connection: Connection[Any], cause: Cause, revisions: Sequence[Revision]) -> list[Unrated]:
    """Write the revisions with their totals; those that the database refuses for their data are given back."""
    if not revisions:
        return []
    totals = Totals()
    for revision in revisions:
        count.correction(totals, cause.kind, revision.old, revision.correction)
    try:
        with connection.transaction():
            write_revisions(connection, revisions, cause.seq)
            add_totals(connection, totals, shard=_SHARD)
    except _REFUSED_DATA as error:
        if len(revisions) == 1:
            detail = f"the correction cannot be stored (SQLSTATE {error.sqlstate})"
            return [Unrated(revisions[0].old.entry_id, Why.REFUSED, detail)]
        half = len(revisions) // 2
        return [*_write(connection, cause, revisions[:half]), *_write(connection, cause, revisions[half:])]
    return []


def _session(dsn: str) -> Connection[Any]:
    # It asks for something every second or so, so one that is silent belongs to a process that was stopped.
    session = connect(dsn, "metering-rerater", autocommit=True, idle_seconds=IDLE_SECONDS, silent_seconds=IDLE_SECONDS)
    session.execute(_KEEP_TO_THE_INDEX)
    return session


def _speaking(connection: Connection[Any], changes: Iterable[Recorded]) -> Iterator[Recorded]:
    """The changes; while they are worked off for long, the server hears that this process is not stopped."""
    said_at = time.monotonic()
    for change in changes:
        yield change
        if time.monotonic() - said_at > _SPEAK_SECONDS:
            connection.execute("SELECT 1")
            said_at = time.monotonic()


def _progress(connection: Connection[Any]) -> tuple[int, int]:
    row = connection.execute(f"SELECT {registry_log.NEWEST}, rerated_seq FROM ledger.fence").fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def _raise_fence(connection: Connection[Any], head: int) -> None:
    # Committed before anything is scanned: an entry either knew the change, or is there to be seen.
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))
        connection.execute("UPDATE ledger.fence SET seq = %s WHERE seq < %s", (head, head))


def _chunks(connection: Connection[Any], where: Touched, head: int) -> Iterator[list[Entry]]:
    """The current entries that ``where`` speaks of and that were priced with ``head`` or less, in bounded parts."""
    conditions, parameters = _conditions(where, head)
    after = ""
    while True:
        rows = connection.cursor(row_factory=dict_row).execute(
            f"SELECT {_SELECTED} FROM ledger.entry e WHERE {conditions} {after} "
            f"ORDER BY e.org_id, e.occurred_at, e.entry_id LIMIT {_CHUNK}",
            parameters,
        )
        chunk = [entry_of(row) for row in rows]
        if not chunk:
            return
        reversed_ids = _reversed(connection, chunk)
        current = [entry for entry in chunk if entry.entry_id not in reversed_ids]
        if current:
            yield current
        last = chunk[-1]
        after = "AND (e.org_id, e.occurred_at, e.entry_id) > (%(last_org)s, %(last_time)s, %(last_id)s)"
        parameters |= {
            "last_org": last.event.org_id,
            "last_time": last.event.occurred_at,
            "last_id": last.entry_id,
        }


def _reversed(connection: Connection[Any], chunk: list[Entry]) -> set[UUID]:
    ids = [entry.entry_id for entry in chunk]
    rows = connection.execute("SELECT adjusts FROM ledger.entry WHERE kind = 'reversal' AND adjusts = ANY(%s)", (ids,))
    return {row[0] for row in rows}


def _conditions(where: Touched, head: int) -> tuple[str, dict[str, Any]]:
    # Not only with less: what came late into the log was missing where later changes were known.
    conditions = ["e.kind <> 'reversal'", "e.registry_seq <= %(seq)s", "e.occurred_at >= %(start)s"]
    parameters: dict[str, Any] = {"seq": head, "start": where.window.start}
    if where.window.end is not None:
        conditions.append("e.occurred_at < %(end)s")
        parameters["end"] = where.window.end
    if where.org_id is not None:
        # Plans and credentials move only what a model was called for.
        conditions.append("e.org_id = %(org_id)s AND e.provider IS NOT NULL")
        parameters["org_id"] = where.org_id
    if where.only_unrated:
        conditions.append("e.entry_id IN (SELECT entry_id FROM ledger.unrated_entry)")
    if where.provider is not None:
        conditions.append("e.provider = %(provider)s")
        parameters["provider"] = where.provider
    if where.scope is not None:
        column = {"organization": "org_id", "team": "team_id", "personal": "user_id"}[where.scope.type.value]
        conditions.append(f"e.{column} = %(scope_id)s")
        parameters["scope_id"] = where.scope.id
    return " AND ".join(conditions), parameters
