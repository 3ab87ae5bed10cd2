"""Leases for asyncio: the rules of ``leases`` and ``changes``, with one task for each request that is under way."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import datetime, timezone

import httpx

from byok_sdk.changes import ChangeFeed, Heard
from byok_sdk.delivery import Answer
from byok_sdk.errors import ClosedError, RegistryAwayError, RegistryError
from byok_sdk.leases import Flight, Lease, LeaseCache, LeaseKey, Next
from byok_sdk.registry_calls import Call, Outcome, lease_call, read_lease, read_report, report_call
from byok_sdk.settings import Settings

_log = logging.getLogger("byok_sdk")
_BEGIN_SECONDS = 2.0
_TRIES = 3
_TOO_FAST = "keys change faster than they can be leased"


class AsyncLeases:
    """The leases of one event loop; in another one it begins anew."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._feed = ChangeFeed()

    async def get(self, key: LeaseKey) -> Lease:
        """The lease that applies now. Raises RegistryAwayError or RegistryRefusedError."""
        self._here()
        todo, lease = self._cache.look(key)
        if lease is None:
            await self._follow()
            return await self._shared(key)
        if todo is Next.USE_AND_REFRESH:
            self._flying(key).add_done_callback(_told)
        return lease

    def drop(self, org_id: str | None = None, provider: str | None = None) -> None:
        """Forget what is of an organization (None: of all) and provider (None: any)."""
        self._here()
        self._cache.drop(org_id, provider)

    async def report(self, lease: Lease, outcome: Outcome, detail: str | None) -> bool:
        """Say how its key fared; False where the registry could not be told, which harms no call."""
        self._here()
        if lease.credential_id is None:
            return False
        try:
            return read_report(await self._ask(report_call(lease, outcome, datetime.now(timezone.utc), detail)))
        except RegistryError as error:
            _log.warning("a report on a key was not taken: %s", error)
            return False

    async def close(self) -> None:
        """Stop following, and let go of the connections."""
        if self._closed or self._loop is not asyncio.get_running_loop():
            self._closed = True
            return
        self._closed = True
        tasks = [*self._flights.values(), *([] if self._following is None else [self._following])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    @property
    def trouble(self) -> str | None:
        """Why changes are not heard of at once; None where they are."""
        return self._feed.trouble

    def _here(self) -> None:
        if self._closed:
            raise ClosedError("the meter was closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Connections and tasks belong to a loop, and changes were not heard of between two of them.
            self._loop = loop
            self._cache, self._feed = LeaseCache(time.monotonic), ChangeFeed()
            self._flights: dict[LeaseKey, asyncio.Task[Lease]] = {}
            self._following: asyncio.Task[None] | None = None
            self._begun = asyncio.Event()
            self._client = httpx.AsyncClient(follow_redirects=False)

    async def _shared(self, key: LeaseKey) -> Lease:
        for _ in range(_TRIES):
            lease = await asyncio.shield(self._flying(key))
            # What was dropped since is nobody's any more.
            if self._cache.look(key)[1] is lease:
                return lease
        raise RegistryAwayError(_TOO_FAST)

    def _flying(self, key: LeaseKey) -> asyncio.Task[Lease]:
        """The request for it that is under way, else a new one. It goes on when who waits for it is cancelled."""
        task = self._flights.get(key)
        if task is None or task.done():
            task = self._flights[key] = asyncio.create_task(self._fetch(key), name="byok-sdk-lease")
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        return task

    async def _fetch(self, key: LeaseKey) -> Lease:
        for _ in range(_TRIES):
            flight = self._cache.begin(key)
            if flight is not None and (lease := await self._fly(flight)) is not None:
                return lease
        raise RegistryAwayError(_TOO_FAST)

    async def _fly(self, flight: Flight) -> Lease | None:
        """Ask; None where something changed meanwhile."""
        try:
            lease = read_lease(flight.key, await self._ask(lease_call(flight.key)))
        except RegistryAwayError:
            older = self._cache.failed(flight)
            if older is None:
                raise
            return older
        except BaseException:
            self._cache.refused(flight)
            raise
        return lease if self._cache.landed(flight, lease) else None

    async def _follow(self) -> None:
        """Begin to hear what changes, before the first lease; but without the registry's answer go on soon."""
        if self._following is None:
            self._following = asyncio.create_task(self._listen(), name="byok-sdk-changes")
        if not self._begun.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._begun.wait(), _BEGIN_SECONDS)

    async def _listen(self) -> None:
        while not self._closed:
            heard = await self._hear()
            for each in heard.drop:
                self._cache.drop(each.org_id, each.provider)
            self._begun.set()
            await asyncio.sleep(heard.pause)

    async def _hear(self) -> Heard:
        try:
            return self._feed.hear(await self._ask(self._feed.question()))
        except RegistryError as error:
            return self._feed.lost(str(error))
        except Exception as error:  # noqa: BLE001 - a task that ended would leave leases alone with their time
            _log.exception("following changes goes on after an error")
            return self._feed.lost(type(error).__name__)

    async def _ask(self, call: Call) -> Answer:
        try:
            answer = await self._client.request(**call.request(self._settings))
        except (httpx.HTTPError, RuntimeError) as error:
            raise RegistryAwayError(type(error).__name__) from None
        return Answer(answer.status_code, answer.content, answer.headers.get("Retry-After"))


def _told(task: asyncio.Task[Lease]) -> None:
    """A lease that could not be renewed early is asked for again when it is needed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a lease was not renewed: %s", error)
