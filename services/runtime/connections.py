"""Bounds on connections, which uvicorn does not have: their number, how long a request's head may take, and a send."""

from __future__ import annotations

import asyncio
import socket
from typing import ClassVar, NamedTuple

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.runtime.logs import logger
from services.runtime.problems import Problem, problem_response
from services.runtime.settings import HttpSettings

_log = logger(__name__)

ALWAYS_SERVED = ("/healthz", "/readyz", "/metrics")
"""What whoever looks after the service must see, also when it has too much to do."""


class ConnectionBounds(NamedTuple):
    """What one server grants to its clients."""

    most: int
    """How many connections at once; beyond them a request is 503 ``busy``, and far beyond, a connection is cut."""
    header_seconds: float
    """How long a client may take from its first byte to the end of a request's headers."""
    send_seconds: float
    """How long a client may read nothing of what is sent to it."""

    @classmethod
    def of(cls, settings: HttpSettings) -> ConnectionBounds:
        """As the settings say."""
        return cls(settings.connections_max, settings.request_header_seconds, settings.send_seconds)

    @property
    def cut_beyond(self) -> int:
        """From how many connections on a further one gets no answer: each holds a file descriptor."""
        return self.most + self.most // 4


def bounded_protocol(bounds: ConnectionBounds) -> type[H11Protocol]:
    """HTTP/1.1 as uvicorn speaks it, within ``bounds``."""
    return type("BoundedProtocol", (_BoundedProtocol,), {"bounds": bounds})


class _BoundedProtocol(H11Protocol):
    bounds: ClassVar[ConnectionBounds]
    _late: asyncio.TimerHandle | None = None
    _owed: tuple[object, object] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.bounds.cut_beyond:
            transport.abort()
            return
        if len(self.connections) > self.bounds.most:
            self.app = _busy_beside(self.app)
        _bound_sends(transport, self.bounds.send_seconds)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            # Between two requests uvicorn's own time limit holds; ours begins with the first byte of the next.
            self._forgive()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        # What came of a body that nobody read is not kept until the next request.
        self.cycle.body = bytearray()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let time run as long as the client owes us something that nobody else waits for.

        That is the head of a request, and the rest of a body whose request is answered: it is read and thrown away, so
        that a client that sends first and reads then finds the answer, but not for ever.
        """
        states = (self.conn.their_state, self.conn.our_state)
        owes = states[0] is h11.IDLE or states == (h11.SEND_BODY, h11.DONE)
        if owes and states == self._owed:
            return
        self._forgive()
        if owes and not self.transport.is_closing():
            self._owed = states
            self._late = self.loop.call_later(self.bounds.header_seconds, self._cut)

    def _forgive(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self._owed = None

    def _cut(self) -> None:
        _log.info("a connection was cut, its request took too long to come")
        self.transport.abort()


def _bound_sends(transport: asyncio.Transport, seconds: float) -> None:
    # The kernel does it where it can (Linux): it sees each byte that the client takes, also after we have closed.
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def _busy_beside(app: ASGIApp) -> ASGIApp:
    too_many = Problem(
        503, "busy", "Too many connections at once; try again.", headers={"Retry-After": "5", "Connection": "close"}
    )

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        served = scope["type"] != "http" or scope["path"] in ALWAYS_SERVED
        await (app if served else problem_response(too_many))(scope, receive, send)

    return busy
