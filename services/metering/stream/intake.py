"""Between the fetch and the ledger: records that wait to be booked, no more than can be held, taken in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from services.metering.booking.pricing import Record

Book = Callable[[Sequence[Record]], Awaitable[None]]

_BYTES_MAX = 32 * 1024 * 1024
# One that is booked, and one that is read and priced meanwhile.
_BATCHES_AT_WORK = 2


class Intake:
    """A queue that is filled with what one fetch brings, and emptied by batches."""

    def __init__(self, most: int, linger_seconds: float) -> None:
        """A batch is of ``most`` records, or of those that came within ``linger_seconds`` after its first."""
        self._most = most
        self._linger_seconds = linger_seconds
        self._waiting: list[Record] = []
        self._bytes = 0
        self._changed = asyncio.Condition()

    @property
    def is_full(self) -> bool:
        """Whether no more is to be fetched: a batch waits, or as many bytes as may be held."""
        return len(self._waiting) >= self._most or self._bytes >= _BYTES_MAX

    async def wait_room(self) -> None:
        """Wait until more may be fetched; what that brings has room then, for it is little more than a batch."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_full)

    async def put(self, records: Iterable[Record]) -> None:
        """Let these wait, behind those that do already."""
        async with self._changed:
            self._waiting += records
            self._bytes = _size(self._waiting)
            self._changed.notify_all()

    async def clear(self) -> None:
        """Forget what waits: its partitions may be another worker's now, and what of it is still ours comes again."""
        async with self._changed:
            self._waiting, self._bytes = [], 0
            self._changed.notify_all()

    async def batch(self) -> list[Record]:
        """The records that waited longest; at least one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_seconds):
                    await self._changed.wait_for(lambda: self.is_full)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            self._bytes = _size(self._waiting)
            self._changed.notify_all()
        return batch or await self.batch()


def _size(records: Iterable[Record]) -> int:
    return sum([len(record.value or b"") for record in records])


async def book_what_comes(intake: Intake, book: Book, tell: Callable[[Sequence[Record]], None]) -> NoReturn:
    """Have every batch booked, in order, and then ``tell`` of it. Raises, in a group, what ``book`` raises.

    While one is booked the next is taken as well; whose turn it is, is for ``book`` to say.
    """
    places = asyncio.Semaphore(_BATCHES_AT_WORK)

    async def book_one(batch: Sequence[Record]) -> None:
        await book(batch)
        tell(batch)
        places.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await places.acquire()
            group.create_task(book_one(await intake.batch()))
