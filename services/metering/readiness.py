"""Whether a worker can do its work, and how far it is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NoReturn

import psycopg
from faust.types import TP

from schemas.topics import USAGE_EVENTS
from services.metering.booking.book_records import BookRecords
from services.metering.dead_letters.pauser import Pauser
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating.rerater import Rerater
from services.metering.stream.app import LedgerApp
from services.metering.stream.gap_reader import GapReader
from services.runtime.database import connect
from services.runtime.logs import logger
from services.runtime.web import ReadinessCheck

_log = logger(__name__)

_ENDS_SECONDS = 5.0
_SILENT_SECONDS = 30.0


class Readiness:
    """What is told of one worker, from its start on."""

    def __init__(self, ledger_dsn: str, follower: RegistryFollower, rerater: Rerater, pauser: Pauser) -> None:
        self.book: BookRecords | None = None
        """Once the registry log is read."""
        self.app: LedgerApp | None = None
        """Once it has started."""
        self.broker: str | None = None
        """Why the worker cannot begin with the broker; None once it has."""
        self._ledger_dsn = ledger_dsn
        self._ends: dict[int, int] = {}
        self._silence: str | None = None
        self._pauser = pauser
        self.checks: Mapping[str, ReadinessCheck] = {
            "broker": lambda: self.broker,
            "registry_log": self._no_registry,
            "partitions": self._no_partitions,
            "fetching": self._not_fetching,
            "ledger": self._no_ledger,
            "registry_changes": follower.failure.unready,
            "booking": self._not_booking,
            "rerating": rerater.failure.unready,
            "pause": self._paused,
        }
        """For /readyz, by name."""

    async def watch_ends(self, log: GapReader) -> NoReturn:
        """Ask again and again where the partitions end: what is fetched says it only while there is room for more."""
        while True:
            if self.app is not None:
                try:
                    self._ends, self._silence = await log.end_offsets(self.app.partitions), None
                except ConnectionError:
                    self._say(await log.trouble())
            await asyncio.sleep(_ENDS_SECONDS)

    def _say(self, why: str | None) -> None:
        if why not in (None, self._silence):
            _log.warning("the broker tells nothing", error=why)
        self._silence = why

    def lag(self) -> dict[int, int]:
        """How many records of each of its partitions are not booked, as far as the broker has told."""
        if self.app is None or self.book is None:
            return {}
        booked, lag = self.book.booked_offsets, {}
        for partition in self.app.partitions:
            # The embedded broker may say less than there is when it is asked, but not with what is fetched.
            highwater = self.app.consumer.highwater(TP(USAGE_EVENTS.name, partition)) or 0
            # Of a partition that is not in the ledger yet, nothing is booked.
            lag[partition] = max(0, max(highwater, self._ends.get(partition, 0)) - booked.get(partition, 0))
        return lag

    def _no_registry(self) -> str | None:
        return None if self.book is not None else "the registry log is still being read, or holds no rate card"

    def _no_partitions(self) -> str | None:
        return None if self.app is not None and self.app.ready else "no partitions have been assigned yet"

    def _not_fetching(self) -> str | None:
        unfetched = [] if self.app is None else self.app.unfetched(_SILENT_SECONDS)
        if not unfetched:
            return None
        why = "" if self._silence is None else f" ({self._silence})"
        return f"of partitions {unfetched} the broker has told nothing for {_SILENT_SECONDS:.0f} s{why}"

    def _no_ledger(self) -> str | None:
        try:
            connect(self._ledger_dsn, "metering-health").close()
        except psycopg.OperationalError:
            return "the ledger database is away"
        return None

    def _not_booking(self) -> str | None:
        return None if self.book is None else self.book.failure.unready()

    def _paused(self) -> str | None:
        pause = self._pauser.pause
        return None if pause is None else pause.sentence
