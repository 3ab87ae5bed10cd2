"""An export over HTTP, which gives back what it holds however it ends."""

from __future__ import annotations

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.ledger.export import Export
from services.runtime.logs import logger

_log = logger(__name__)

POSITION_HEADER = "Byok-Position"
"""The header that says up to which position in the feed an answer counts."""


class ExportResponse(StreamingResponse):
    """Sends an export, and closes it when it is sent, when the client has gone, and when its time is over.

    One that is cut short ends without the end of the chunked coding, so that a part never looks like the whole.
    """

    def __init__(self, export: Export, *, seconds_max: float, media_type: str, filename: str) -> None:
        """``seconds_max`` bounds the time from the first byte to the last."""
        headers = {
            "Content-Disposition": f'attachment; filename="{filename}"',
            POSITION_HEADER: str(export.position),
        }
        super().__init__(export, media_type=media_type, headers=headers)
        self._export = export
        self._seconds_max = seconds_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Where its time is over it just returns, and the server cuts the connection."""
        try:
            with anyio.move_on_after(self._seconds_max) as in_time:
                await super().__call__(scope, receive, send)
            if in_time.cancelled_caught:
                _log.warning("an export was cut, its time was over", seconds=self._seconds_max)
        finally:
            # A generator that waits in `send` is ended by nobody else, and whoever cancels us must not keep it open.
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._export.close)
