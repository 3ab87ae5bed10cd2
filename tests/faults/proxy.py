"""A TCP proxy for faults: it can cut connections, refuse them, hold what flows for a while, or let it flow late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from services.local.endpoints import LOOPBACK
from tests.patience import PATIENCE_SECONDS

_BLOCK = 64 * 1024


class Proxy:
    """Forwards connections to ``target`` from a thread of its own, once ``forward`` has named it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._target: int | None = None
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, LOOPBACK, 0), self._loop)
        self._server = started.result(PATIENCE_SECONDS)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def forward(self, target: int) -> None:
        """Let every connection through, without delay."""
        self._call(self._set, target)

    def away(self) -> None:
        """Cut every connection, and refuse new ones."""
        self._call(self._set, None)

    def hold(self) -> None:
        """Let nothing flow, without telling anyone: connections stay, and new ones are accepted."""
        self._call(self._flowing.clear)

    def slow(self, seconds: float) -> None:
        """Hold each block that flows for ``seconds``."""
        self._call(self._delay_by, seconds)

    def close(self) -> None:
        """End everything."""
        self.away()
        self._call(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        done = threading.Event()

        def call() -> None:
            function(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(call)
        done.wait(PATIENCE_SECONDS)

    def _delay_by(self, seconds: float) -> None:
        self._delay = seconds

    def _set(self, target: int | None) -> None:
        self._target, self._delay = target, 0.0
        if target is None:
            for writer in self._writers:
                writer.transport.abort()
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        if self._target is None:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(_BLOCK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(block)
                await writer.drain()
        writer.close()
