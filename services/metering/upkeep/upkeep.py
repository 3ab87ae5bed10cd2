"""One worker at a time merges covered ranges and removes old dead letters; the others stand by."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from services.books.locks import UPKEEP
from services.metering.booking.ledger_writer import IDLE_SECONDS
from services.metering.upkeep.covered_ranges import RangeMerger
from services.metering.upkeep.old_letters import remove
from services.runtime.background import lead, patiently_until
from services.runtime.database import connect, is_outage
from services.runtime.logs import logger

_log = logger(__name__)

_INTERVAL_SECONDS = 60.0
_STANDING_BY_SECONDS = 10.0
# Whoever says nothing for two rounds was stopped, and another may go on.
_SILENT_SECONDS = 180


class Keep(NamedTuple):
    """How long the books keep what they need not keep for ever."""

    ranges_seconds: float
    """Covered ranges, one for each batch."""
    letter_days: int
    """Dead letters that no replay would book."""
    replayable_letter_days: int | None
    """Those that one would; None: for ever."""


class Upkeep:
    """Keeps the books small, for as long as it is the one that does."""

    def __init__(self, ledger_dsn: str, keep: Keep) -> None:
        """Connects when it runs."""
        self._dsn = ledger_dsn
        self._keep = keep
        self._merger = RangeMerger(keep.ranges_seconds)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; waits for a database that is away, and for its turn."""
        patiently_until(stop, partial(self._session, stop), _failed, longest_seconds=_INTERVAL_SECONDS)

    def _session(self, stop: threading.Event) -> None:
        session = connect(
            self._dsn, "metering-upkeep", autocommit=True, idle_seconds=IDLE_SECONDS, silent_seconds=_SILENT_SECONDS
        )
        with closing(session) as connection:
            if not lead(connection, UPKEEP, stop, seconds=_STANDING_BY_SECONDS):
                return
            while not stop.is_set():
                self.step(connection, stop)
                stop.wait(_INTERVAL_SECONDS)

    def step(self, connection: Connection[Any], stop: threading.Event) -> None:
        """Do all there is to do by now. Raises psycopg.Error."""
        merged = self._merger.step(connection)
        removed = 0
        while not stop.is_set():
            letters = remove(connection, self._keep.letter_days, self._keep.replayable_letter_days)
            removed += letters
            if not letters:
                break
        if removed:
            _log.info("old dead letters removed", letters=removed)
        _log.debug("upkeep done", ranges_merged=merged, letters_removed=removed)


def _failed(error: Exception) -> None:
    if not isinstance(error, psycopg.Error):
        raise error
    level = "warning" if is_outage(error) else "error"
    getattr(_log, level)("upkeep starts again", error=type(error).__name__, sqlstate=error.sqlstate)
