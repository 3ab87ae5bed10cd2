"""Files of an API, passed on piece by piece as they come: the console keeps none, and holds no more than a piece."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.console.apis import Api, Query

_PASSED_ON = ("Content-Type", "Content-Disposition", "Byok-Position")


async def download(api: Api, *path: str, query: Query) -> Response:
    """The file with its name. Raises ApiError before the first piece; what breaks later breaks the answer off."""
    async with AsyncExitStack() as stack:
        answer = await stack.enter_async_context(api.download(*path, query=query))
        return _Download(answer, stack.pop_all())


class _Download(StreamingResponse):
    """Sends what comes, and lets go of it however that ends, also where the reader has gone."""

    def __init__(self, answer: httpx.Response, closing: AsyncExitStack) -> None:
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        super().__init__(answer.aiter_bytes(), headers=headers)
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Whoever cancels us must not keep it open.
            with anyio.CancelScope(shield=True):
                await self._closing.aclose()
