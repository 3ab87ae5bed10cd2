"""Waiting for what is new in the feed, without holding a thread or a connection meanwhile."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
from starlette.concurrency import run_in_threadpool

from services.ledger.handlers import FeedPage
from services.ledger.query import FeedQuery

_LOOK_SECONDS = 0.4


async def first_news(
    query: FeedQuery, look: Callable[[FeedQuery], FeedPage], gone: Callable[[], Awaitable[bool]]
) -> FeedPage:
    """The first page that has news, or the last that was looked at when the time to wait, or who asks, is gone.

    News are entries, and that the ledger was set back. What is others' is passed by meanwhile.
    """
    until = time.monotonic() + query.wait
    page = await run_in_threadpool(look, query)
    while not page.entries and page.void_after is None:
        left = until - time.monotonic()
        if left <= 0 or await gone():
            break
        if page.next_position == query.after:
            await anyio.sleep(min(left, _LOOK_SECONDS))
        query = query.model_copy(update={"after": page.next_position})
        page = await run_in_threadpool(look, query)
    return page
