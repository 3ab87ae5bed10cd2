"""Those who wait for the next change: all share one look at the log, and hold neither a thread nor a connection.

While somebody waits the log is looked at five times a second, with one query for all (docs/adr/0033).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import anyio
import anyio.to_thread

from services.key_registry.log.reading import ChangePage, Part, page_of

_LOOK_SECONDS = 0.2


class TooManyWaitError(Exception):
    """There is no place to wait."""


class Follower(NamedTuple):
    """How far somebody knows the log, and what of it is told: one organization's, or all; ``limit`` at once."""

    after: int
    org_id: str | None
    limit: int


class _Waiter:
    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.page: asyncio.Future[ChangePage] = asyncio.get_running_loop().create_future()

    @property
    def nothing(self) -> ChangePage:
        return ChangePage((), self.follower.after, more=False)

    def see(self, part: Part) -> None:
        page = page_of(part, *self.follower)
        if not page.changes:
            # What concerns others only is not looked through again.
            self.follower = self.follower._replace(after=page.next_after)
        elif not self.page.done():
            self.page.set_result(page)


class ChangeWatch:
    """Whoever waits in this process. For one event loop: nothing in here is locked."""

    def __init__(self, read: Callable[[int], Part], most: int, is_stopping: Callable[[], bool]) -> None:
        """``read`` is called in a thread, and says what follows a place of the log. ``most`` may wait at once, of
        tokens that are good for one organization alone half as many. Once ``is_stopping`` all are answered."""
        self._read, self._most, self._is_stopping = read, most, is_stopping
        self._waiting: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None
        # A thread of its own: those of requests may all wait for the database.
        self._thread = anyio.CapacityLimiter(1)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def next_page(self, follower: Follower, seconds: float) -> ChangePage:
        """What comes next, within a second of its commit; without changes after ``seconds``, or when the service stops.

        Raises TooManyWaitError, and what ``read`` raises: who is told that nothing is new must be able to rely on it.
        """
        self._require_place(follower)
        waiter = _Waiter(follower)
        self._waiting.add(waiter)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(waiter.page, seconds)
        except TimeoutError:
            return waiter.nothing
        finally:
            self._leave(waiter)

    def _require_place(self, follower: Follower) -> None:
        of_its = sum(waiter.follower.org_id == follower.org_id for waiter in self._waiting)
        if len(self._waiting) >= self._most or (follower.org_id is not None and of_its >= self._most // 2):
            raise TooManyWaitError

    def _leave(self, waiter: _Waiter) -> None:
        self._waiting.discard(waiter)
        if not self._waiting and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        while True:
            if self._is_stopping():
                self._settle(lambda waiter: waiter.page.set_result(waiter.nothing))
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look_once()
            except Exception as error:  # noqa: BLE001 - it is raised by every request that waits
                failure = error
                self._settle(lambda waiter: waiter.page.set_exception(failure))  # noqa: B023 - called at once

    async def _look_once(self) -> None:
        known = min((waiter.follower.after for waiter in self._waiting), default=None)
        if known is None:
            return
        part = await anyio.to_thread.run_sync(self._read, known, limiter=self._thread)
        for waiter in self._waiting:
            waiter.see(part)

    def _settle(self, settle: Callable[[_Waiter], None]) -> None:
        for waiter in self._waiting:
            if not waiter.page.done():
                settle(waiter)
