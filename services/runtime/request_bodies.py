"""Takes the bodies of requests into memory: whose they are first, then within bounds of size, time and memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime.problems import Problem, problem_response
from services.runtime.settings import HttpSettings
from services.runtime.tokens import authenticate

# Everything under this path needs a token (docs/contract.md, section 8).
_API = "/v1/"
# Elsewhere anybody may send something: a form, at most.
_OPEN_BYTES_MAX = 64 * 1024
_CLOSE = {"Connection": "close"}
_THROWN_AWAY_SECONDS = 10.0


class BodyBounds(NamedTuple):
    """What one service takes of its clients."""

    bytes_max: int
    """How long one body may be."""
    bytes_max_of_all: int
    """How much all bodies of requests that are not answered yet may hold; those of one organization, half of it."""
    seconds_max: float
    """How long a body may take to arrive."""

    @classmethod
    def of(cls, settings: HttpSettings, bytes_max: int) -> BodyBounds:
        """As the settings say."""
        # Below twice one body nobody could send the longest.
        of_all = max(settings.request_bodies_bytes_max, 2 * bytes_max)
        return cls(bytes_max, of_all, settings.request_body_seconds)


class RequestBodies:
    """ASGI middleware in front of an application: hands it each request with its whole body, or refuses it.

    A request without a valid token is refused before any of its body is taken; so is one whose body is longer than the
    limit, whether or not it says so itself (413), does not come in time (408), or finds no room (503 ``busy``).
    """

    def __init__(self, app: ASGIApp, bounds: BodyBounds) -> None:
        self._app = app
        self._bounds = bounds
        self._room = _Room(bounds.bytes_max_of_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _has_body(request := Request(scope)):
            await self._app(scope, receive, send)
            return
        arriving = _Arriving(receive)
        problem = await self._handed_on(request, scope, arriving, send)
        if problem is None:
            return
        if _ends_with_the_answer(request) and problem.status != 408:
            await arriving.thrown_away()
        await problem_response(_told(problem, request))(scope, receive, send)

    async def _handed_on(self, request: Request, scope: Scope, arriving: _Arriving, send: Send) -> Problem | None:
        """Let the application answer the request; why not, where it is refused."""
        with self._room.place() as place:
            try:
                place.whose, most = await self._sender(request)
                body = await self._read(request, arriving, most, place)
            except Problem as problem:
                return problem
            if body is not None:
                await self._app(scope, _replay(body, arriving.receive), send)
        return None

    async def _sender(self, request: Request) -> tuple[str, int]:
        """The organization that the body counts for, and how long it may be."""
        if not request.scope["path"].startswith(_API):
            return "", min(_OPEN_BYTES_MAX, self._bounds.bytes_max)
        request.state.caller = caller = await authenticate(request)
        return caller.org_id, self._bounds.bytes_max

    async def _read(self, request: Request, arriving: _Arriving, most: int, place: _Place) -> bytes | None:
        """The body; None where the client has gone."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.seconds_max):
                while arriving.more:
                    message = await arriving.receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    if len(body) + len(part) > most:
                        raise _too_large(most)
                    place.take(len(part))
                    body += part
        except TimeoutError:
            detail = f"The body did not arrive within {self._bounds.seconds_max:g} s; send it again."
            raise Problem(408, "request_timeout", detail, headers=_CLOSE) from None
        return bytes(body)


def _too_large(most: int) -> Problem:
    # Not held by whoever raises it: with the traceback that would be a circle, and the body in it would stay for long.
    return Problem(413, "request_too_large", f"The body must be at most {most} bytes.")


class _Arriving:
    """A body on its way, and whether there is more of it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.more = True

    async def receive(self) -> Message:
        """The next part of it, or that the client has gone."""
        message = await self._receive()
        self.more = message.get("more_body", False)
        return message

    async def thrown_away(self) -> None:
        """Let the rest arrive, for seconds.

        Closed with something unread, the kernel cuts a connection, and a client that sends all of it first would find
        no answer.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_THROWN_AWAY_SECONDS):
                while self.more:
                    await self.receive()


class _Room:
    """How much the bodies of all requests hold at present, and those of each organization."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    @contextmanager
    def place(self) -> Iterator[_Place]:
        """Where one body grows; all of it is given back at the end."""
        place = _Place(self)
        try:
            yield place
        finally:
            self._held[place.whose] -= place.size
            # Names of organizations are not collected.
            self._held += Counter()

    def take(self, whose: str, size: int) -> None:
        """Count ``size`` bytes more. Raises 503 ``busy`` where there is no room for them."""
        full = self._held.total() + size > self._most
        if full or self._held[whose] + size > self._most // 2:
            detail = "Too much is being sent at once; try again, or send less at once."
            raise Problem(503, "busy", detail, headers={"Retry-After": "2"})
        self._held[whose] += size


class _Place:
    """What one body holds of the room."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.whose = ""
        self.size = 0

    def take(self, size: int) -> None:
        self._room.take(self.whose, size)
        self.size += size


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _told(problem: Problem, request: Request) -> Problem:
    # A client that asked whether it should send, and is told no, may go on to its next request or not; only it knows.
    if "expect" in request.headers:
        problem.headers |= _CLOSE
    return problem


def _ends_with_the_answer(request: Request) -> bool:
    # Whoever asked first, and is refused, does not send it at all.
    closes = request.scope.get("http_version") == "1.0" or "close" in request.headers.get("connection", "").lower()
    return closes and "expect" not in request.headers


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
