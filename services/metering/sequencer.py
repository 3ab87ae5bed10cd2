"""One worker at a time gives committed entries their places in the feed; the others stand by (docs/design.md, 12).

Which batch is next is looked up in the queue that each insert of entries adds to, so nothing rests on clocks, on the
order of commits or on how many workers there are: what commits late gets a late place. The places themselves are given
by a function of the database, which lets in one caller at a time, whoever believes to lead.
"""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection

from services.books.locks import SEQUENCER
from services.runtime.background import lead, patiently_until
from services.runtime.database import connect, is_outage
from services.runtime.logs import logger

_log = logger(__name__)

_INTERVAL_SECONDS = 0.2
_STANDING_BY_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 1.0
# It asks for something several times a second, so one that is silent was stopped, and another may go on.
_SILENT_SECONDS = 3
_ENTRIES_AT_ONCE = 20_000
"""About how many entries get their places in one transaction: readers see none of them before its end."""


class Sequencer:
    """Gives places, for as long as it is the one that does."""

    def __init__(self, ledger_dsn: str) -> None:
        """Connects when it runs."""
        self._dsn = ledger_dsn

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; waits for a database that is away, and for its turn."""
        patiently_until(stop, partial(self._session, stop), _failed, longest_seconds=_LONGEST_WAIT_SECONDS)

    def _session(self, stop: threading.Event) -> None:
        session = connect(
            self._dsn,
            "metering-sequencer",
            autocommit=True,
            idle_seconds=_SILENT_SECONDS,
            silent_seconds=_SILENT_SECONDS,
        )
        with closing(session) as connection:
            if not lead(connection, SEQUENCER, stop, seconds=_STANDING_BY_SECONDS):
                return
            while not stop.is_set():
                if not place_entries(connection):
                    stop.wait(_INTERVAL_SECONDS)


def place_entries(connection: Connection[Any], *, most: int = _ENTRIES_AT_ONCE) -> int:
    """Give the entries of the oldest batches their places; how many entries that were, 0 where none waits.

    Batches are taken whole: the last of them may go beyond ``most``. Raises psycopg.Error.
    """
    # What is summed by place joins this transaction, so that sums and places can never be apart.
    with connection.transaction():
        row = connection.execute("SELECT ledger.place_entries(%s)", (most,)).fetchone()
    return 0 if row is None else int(row[0])


def _failed(error: Exception) -> None:
    if not isinstance(error, psycopg.Error):
        raise error
    level = "warning" if is_outage(error) else "error"
    getattr(_log, level)("the sequencer starts again", error=type(error).__name__, sqlstate=error.sqlstate)
