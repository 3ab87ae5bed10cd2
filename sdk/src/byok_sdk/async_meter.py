"""The meter of a runner that uses asyncio. Its events go to the same spool, and the same thread sends them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from byok_sdk.acts import RunEvents
from byok_sdk.async_leases import AsyncLeases
from byok_sdk.async_runs import AsyncRun
from byok_sdk.emitter import Emitter
from byok_sdk.errors import ClosedError
from byok_sdk.events import Whose, utc_now
from byok_sdk.metrics import Shown, prometheus_text
from byok_sdk.settings import Settings
from byok_sdk.spool import Counts

# What comes while one of them writes is written together by the next.
_DISK_THREADS = 4


class AsyncMeter:
    """Leases keys and records usage, as ``Meter``; what may wait is awaited. Fork before it is first used."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened and nobody is asked before the first use."""
        self._settings = settings
        self._emitter = Emitter(settings)
        self._leases = AsyncLeases(settings)
        # Threads of its own: the loop's may all be busy with the runner's work while an event waits for its disk.
        self._disk = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="byok-sdk-disk")
        self._closed = False

    @classmethod
    def from_env(cls, **given: Any) -> AsyncMeter:
        """A meter by the environment (see ``Settings.from_env``); what is ``given`` goes first."""
        return cls(Settings.from_env(**given))

    def run(self, *, org: str, user: str, team: str | None = None, run_id: str | None = None) -> AsyncRun:
        """What is done for ``user`` of ``org``; as ``Meter.run``."""
        events = RunEvents(Whose(org, user, team, run_id), self._settings.source, utc_now)
        return AsyncRun(events, self._record, self._leases)

    async def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the ledger has, or has refused, all that this process recorded; whether it did in time."""
        return await asyncio.to_thread(self._emitter.flush, timeout)

    async def close(self, timeout: float | None = None) -> bool:
        """Send what waits for a while, and end; as ``Meter.close``."""
        self._closed = True
        await self._leases.close()
        closed = await asyncio.to_thread(self._emitter.close, timeout)
        self._disk.shutdown(wait=False)
        return closed

    def counts(self) -> Counts:
        """What became of the events: accepted = acknowledged + rejected + waiting."""
        return self._emitter.counts()

    def metrics(self) -> str:
        """The counts, and what is wrong if anything is, in Prometheus' text format."""
        return prometheus_text(self.shown())

    def shown(self) -> Shown:
        """The same, for ``byok_sdk.metrics.collector``."""
        return Shown(self.counts(), self._emitter.trouble, self._leases.trouble)

    async def __aenter__(self) -> AsyncMeter:
        """The meter itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def _record(self, body: bytes) -> None:
        if self._closed:
            raise ClosedError("the meter was closed")
        # Who is cancelled meanwhile is told so, and the event is recorded all the same: it happened.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._disk, self._emitter.record, body))
