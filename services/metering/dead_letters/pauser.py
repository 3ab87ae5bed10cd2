"""Pauses metering when too much of it becomes dead letters, and holds every batch until somebody resumes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from psycopg import Connection

from services.metering.dead_letters import pause as rows
from services.metering.dead_letters.pause import Pause
from services.metering.dead_letters.share import Count, DeadLetterShare, Excess, Limit, Origin
from services.runtime.background import patiently
from services.runtime.database import connect, is_outage
from services.runtime.logs import logger

_log = logger(__name__)

_LOOK_SECONDS = 1.0


class _Standing(NamedTuple):
    pause: Pause | None
    ignored: frozenset[str]


class Pauser:
    """What one worker knows of the pause, once it has looked. For one event loop."""

    def __init__(self, ledger_dsn: str, limit: Limit, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Connects at its first look."""
        self._dsn = ledger_dsn
        self._limit = limit
        self._share = DeadLetterShare(limit, clock)
        self._pause: Pause | None = None
        self._failing: dict[Origin, Count] = {}
        self._ignored: frozenset[str] = frozenset()
        # Set while it is known that nothing is paused: a worker that was just started has to look first.
        self._free = asyncio.Event()
        # A look that began before a pause must not end after it, and call it off.
        self._one_at_a_time = asyncio.Lock()
        self._connection: Connection[Any] | None = None

    @property
    def pause(self) -> Pause | None:
        """The pause that is in force, as far as it is known here."""
        return self._pause

    @property
    def failing(self) -> Collection[Origin]:
        """Organizations and sources of whose own events too many became dead letters; a second old at most."""
        return self._failing

    async def wait_free(self) -> None:
        """Return when nothing is paused, which may take days."""
        await self._free.wait()

    async def note(self, by_origin: Mapping[Origin, Count]) -> None:
        """Count a batch that was booked; where that makes too many dead letters, pause. Waits for the database."""
        counted = {o: count for o, count in by_origin.items() if o.org_id not in self._ignored}
        excess = self._share.add(counted)
        if excess is not None:
            await self._patiently(lambda: self._begin(excess))
            self._share.clear()

    async def look(self) -> None:
        """Learn whether metering is paused. Waits for the database."""
        await self._patiently(self._look)

    async def watch(self) -> None:
        """Look every second, for another worker may pause, and an operator resume. Never ends."""
        while True:
            await self.look()
            self._look_for_failing()
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Let go of the connection; the next look opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _patiently(self, work: Callable[[], _Standing]) -> None:
        async def known() -> None:
            async with self._one_at_a_time:
                self._know(await asyncio.to_thread(work))

        await patiently(known, self._failed)

    def _failed(self, error: Exception) -> None:
        if not is_outage(error):
            raise error
        self.close()
        _log.warning("whether metering is paused is not known", error=type(error).__name__)

    def _look(self) -> _Standing:
        # In this order: whoever resumes and leaves somebody out of the count writes the latter first.
        pause = rows.in_force(self._open())
        return _Standing(pause, frozenset(each.org_id for each in rows.ignored(self._open())))

    def _begin(self, excess: Excess) -> _Standing:
        rows.begin(self._open(), excess, self._limit.window_seconds)
        return self._look()

    def _know(self, standing: _Standing) -> None:
        if standing.ignored != self._ignored:
            self._ignored = standing.ignored
            _log.warning("events that do not count towards a pause", org_ids=sorted(self._ignored))
        pause = standing.pause
        before, self._pause = self._pause, pause
        if pause is None:
            self._free.set()
            if before is not None:
                _log.warning("metering goes on", pause_id=before.pause_id)
            return
        self._free.clear()
        if before is None or before.pause_id != pause.pause_id:
            # What led to this pause must not lead to the next one.
            self._share.clear()
            _log.warning("metering is paused", detail=pause.sentence, **pause._asdict(), limit=self._limit._asdict())

    def _look_for_failing(self) -> None:
        before, self._failing = self._failing, self._share.failing()
        for origin, count in self._failing.items():
            if origin not in before:
                _log.warning("events of one origin become dead letters", **origin._asdict(), **count._asdict())

    def _open(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, "metering-pause", autocommit=True)
        return self._connection
