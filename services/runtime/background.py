"""Work beside the requests: until its surroundings work, over and over, in a thread, and by one process at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import Connection

from services.runtime.backoff import delays
from services.runtime.logs import logger

_log = logger(__name__)

T = TypeVar("T")
Failed = Callable[[Exception], None]
"""Takes note of an error that waiting can help against, and raises any other."""

_WENT_WELL_SECONDS = 30.0


async def patiently(work: Callable[[], Awaitable[T]], failed: Failed) -> T:
    """What ``work`` returns, tried until it does, with longer and longer waits. Raises what ``failed`` raises."""
    for delay in delays():
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - whoever calls says which are waited out
            failed(error)
        await asyncio.sleep(delay)
    raise AssertionError("delays have no end")


def patiently_until(
    stop: threading.Event, work: Callable[[], T], failed: Failed, *, longest_seconds: float = 5.0
) -> T | None:
    """``patiently`` for a thread: what ``work`` returns, or None once ``stop`` is set.

    Work that went well for half a minute and fails then is soon tried again: what is away is away anew.
    """
    waits = delays(longest=longest_seconds)
    while not stop.is_set():
        began = time.monotonic()
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - as above
            failed(error)
        if time.monotonic() - began > _WENT_WELL_SECONDS:
            waits = delays(longest=longest_seconds)
        stop.wait(next(waits))
    return None


def repeat(work: Callable[[], object], seconds: float, stop: threading.Event) -> None:
    """Do ``work`` at once, and again ``seconds`` after each end of it, until ``stop`` is set. No error ends that."""
    while not stop.is_set():
        try:
            work()
        except Exception as error:  # noqa: BLE001 - what is done no more, without a word, would be missed too late
            _log.error("background work failed", thread=threading.current_thread().name, exc_info=error)
        stop.wait(seconds)


@contextmanager
def in_background(
    name: str,
    run: Callable[[threading.Event], object],
    *,
    stop_seconds: float = 0.0,
    died: Callable[[Exception], object] | None = None,
) -> Iterator[None]:
    """``run`` in a thread of its own for as long as the block lasts; then its event is set.

    It is waited for ``stop_seconds`` then, and ends with the process at the latest. ``died`` is told, in that thread,
    of an error that ended ``run``; without it, it is logged.
    """
    stop = threading.Event()

    def guarded() -> None:
        try:
            run(stop)
        except Exception as error:  # noqa: BLE001 - a thread that ended without a word would be missed too late
            if died is None:
                _log.critical("background work ended", thread=name, exc_info=error)
            else:
                died(error)

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(stop_seconds)


def lead(
    session: Connection[Any],
    lock: int,
    stop: threading.Event,
    *,
    standing_by: Callable[[], object] = lambda: None,
    seconds: float = 1.0,
) -> bool:
    """Wait until ``session`` is the one that holds the advisory lock, which it does until it ends; False on ``stop``.

    While another has it, ``standing_by`` is called, and the lock asked for again after so many seconds. Raises
    psycopg.Error.
    """
    while not stop.is_set():
        row = session.execute("SELECT pg_try_advisory_lock(%s)", (lock,)).fetchone()
        if row is not None and row[0]:
            return True
        standing_by()
        stop.wait(seconds)
    return False
