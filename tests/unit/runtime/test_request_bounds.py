"""What clients cannot take from a service: sockets that never finish, against the server as it is in production."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive

from services.runtime.connections import ConnectionBounds
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import TokenSettings
from services.runtime.tokens import Authenticated, TokenVerifier
from services.runtime.web import create_app, server
from tests.patience import PATIENCE_SECONDS
from tests.unit.runtime.key_server import ed25519

SIGNER = ed25519("ed")
BODY_BYTES_MAX = 1_000_000
# Longer than a test waits: it is the bound under test that is met, and none of the others.
NEVER = 10 * PATIENCE_SECONDS
CONNECTIONS = ConnectionBounds(most=200, header_seconds=NEVER, send_seconds=NEVER)
BODIES = BodyBounds(bytes_max=BODY_BYTES_MAX, bytes_max_of_all=2 * BODY_BYTES_MAX, seconds_max=NEVER)
Serve = Callable[..., "Served"]


class Served:
    """A service under test, and what a client needs."""

    def __init__(self, running: uvicorn.Server, bodies_read: list[int]) -> None:
        self.running = running
        self.bodies_read = bodies_read
        self.address = running.servers[0].sockets[0].getsockname()

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """A connection on which nothing was said yet."""
        client = socket.socket()
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(self.address)
        return client

    def wait_for_connections(self, count: int) -> None:
        """Return when the server has so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.running.server_state.connections) != count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    keys: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    keys.write_text(json.dumps({"keys": [SIGNER.jwk()]}))
    return TokenVerifier(TokenSettings(jwt_jwks_file=keys))


@pytest.fixture
def serve(verifier: TokenVerifier) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda connections=CONNECTIONS, bodies=BODIES: stack.enter_context(_served(verifier, connections, bodies))


def _app(verifier: TokenVerifier, bodies: BodyBounds, read: list[int]) -> FastAPI:
    app = create_app(title="t", description="t", metrics=CollectorRegistry(), checks={}, bodies=bodies)
    app.state.tokens = verifier

    @app.post("/v1/things")
    async def things(_caller: Authenticated, request: Request) -> int:
        read.append(len(await request.body()))
        return read[-1]

    @app.post("/form")
    async def form(request: Request) -> int:
        return len(await request.body())

    @app.get("/large")
    def large() -> Response:
        return Response(b"x" * 20_000_000)

    return app


@contextmanager
def _served(verifier: TokenVerifier, connections: ConnectionBounds, bodies: BodyBounds) -> Iterator[Served]:
    read: list[int] = []
    app = _app(verifier, bodies, read)
    running = server(app, "127.0.0.1", 0, None, bounds=connections)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not running.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield Served(running, read)
    finally:
        running.should_exit = running.force_exit = True
        thread.join(PATIENCE_SECONDS)


def token(org_id: str = "acme") -> str:
    now = int(time.time())
    return SIGNER.sign({"iss": "byok", "aud": "byok", "sub": "uma", "org_id": org_id, "exp": now + 600})


def head(length: int | None, *, path: str = "/v1/things", bearer: str | None = None, more: str = "") -> bytes:
    """The head of a POST; without ``length`` its body is in chunks."""
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    authorization = "" if bearer is None else f"Authorization: Bearer {bearer}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: t\r\n{authorization}{more}{how}\r\n\r\n".encode()


def answer(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """One answer with its body, and no more than that."""
    read = b""
    while b"\r\n\r\n" not in read:
        part = client.recv(1)
        assert part, "the connection was cut without an answer"
        read += part
    lines = read.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += client.recv(int(headers["content-length"]) - len(body))
    return int(lines[0].split()[1]), headers, json.loads(body)


def refusal(client: socket.socket) -> tuple[int, str]:
    status, headers, body = answer(client)
    assert headers["content-type"] == "application/problem+json"
    return status, body["code"]


def is_cut(client: socket.socket, *, trickle: bytes = b"") -> bool:
    """Whether the server ends the connection; meanwhile the client sends ``trickle`` over and over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    client.settimeout(0.05 if trickle else PATIENCE_SECONDS)
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            try:
                client.sendall(trickle)
                if not client.recv(65_536):
                    return True
            except ConnectionError:
                return True
    return False


SLOW_HEADERS = CONNECTIONS._replace(header_seconds=0.5)


def test_without_a_token_no_body_is_taken(serve: Serve) -> None:
    served = serve(SLOW_HEADERS)
    with ExitStack() as clients:
        sending = [clients.enter_context(served.connect()) for _ in range(60)]
        for client in sending:
            client.sendall(head(BODY_BYTES_MAX) + b"x" * 10_000)
        # All answers come while no body is complete; the rest is not waited for.
        assert {refusal(client) for client in sending} == {(401, "unauthenticated")}
        assert all(is_cut(client) for client in sending)
    assert served.bodies_read == []


@pytest.mark.parametrize("bearer", ["nonsense", "a.b.c"])
def test_a_bad_token_is_told_before_the_body(serve: Serve, bearer: str) -> None:
    with serve().connect() as client:
        client.sendall(head(BODY_BYTES_MAX, bearer=bearer))
        status, headers, body = answer(client)
        assert (status, body["code"], headers["www-authenticate"]) == (401, "invalid_token", "Bearer")


def test_whoever_sends_all_of_it_first_finds_the_answer_and_may_go_on(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(head(BODY_BYTES_MAX) + b"x" * BODY_BYTES_MAX)
        assert refusal(client) == (401, "unauthenticated")
        client.sendall(head(3, bearer=token()) + b"abc")
        assert answer(client)[2] == 3


@pytest.mark.parametrize("bearer", [False, True])
@pytest.mark.parametrize("length", [16 * BODY_BYTES_MAX, None])
def test_whoever_wants_the_connection_closed_finds_the_answer_too(
    serve: Serve, length: int | None, *, bearer: bool
) -> None:
    body = b"x" * 16 * BODY_BYTES_MAX
    sent = body if length is not None else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with serve().connect() as client:
        client.sendall(head(length, bearer=token() if bearer else None, more="Connection: close\r\n") + sent)
        assert refusal(client) == ((413, "request_too_large") if bearer else (401, "unauthenticated"))
        assert is_cut(client)


def test_whoever_asks_first_is_told_not_to_send(serve: Serve) -> None:
    with serve().connect() as client:
        client.sendall(head(BODY_BYTES_MAX, more="Expect: 100-continue\r\n"))
        status, headers, _ = answer(client)
        assert (status, headers["connection"]) == (401, "close")
        assert is_cut(client)


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET /healthz HTTP/1.1\r\nX-Endless: "])
@pytest.mark.parametrize("trickle", [b"", b"x"])
def test_headers_that_do_not_end_are_cut(serve: Serve, beginning: bytes, trickle: bytes) -> None:
    with serve(SLOW_HEADERS).connect() as client:
        client.sendall(beginning)
        assert is_cut(client, trickle=trickle)


def test_headers_of_a_second_request_are_cut_too(serve: Serve) -> None:
    with serve(SLOW_HEADERS).connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert answer(client)[0] == 200
        assert is_cut(client, trickle=b"x")


@pytest.mark.parametrize("length", [BODY_BYTES_MAX, None])
@pytest.mark.parametrize("path", ["/v1/things", "/form"])
def test_bodies_that_do_not_come_in_time_are_408(serve: Serve, length: int | None, path: str) -> None:
    length = length and min(length, 60_000)
    with serve(bodies=BODIES._replace(seconds_max=0.3)).connect() as client:
        client.sendall(head(length, path=path, bearer=token()) + (b"2\r\nab\r\n" if length is None else b"ab"))
        status, headers, body = answer(client)
        assert (status, body["code"], headers["connection"]) == (408, "request_timeout", "close")
        assert is_cut(client)


def test_a_body_that_trickles_has_no_more_time(serve: Serve) -> None:
    with serve(bodies=BODIES._replace(seconds_max=0.3)).connect() as client:
        client.sendall(head(BODY_BYTES_MAX, bearer=token()))
        assert is_cut(client, trickle=b"x")


def test_a_body_that_was_refused_is_let_go_at_once(serve: Serve) -> None:
    served = serve()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(8):
            with served.connect() as client:
                client.sendall(head(None, bearer=token()) + b"f4241\r\n" + b"x" * 1_000_001)
                assert refusal(client) == (413, "request_too_large")
        held, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    # The last one may still be under way.
    assert held < 3 * BODY_BYTES_MAX


@pytest.mark.parametrize("path", ["/v1/things", "/form"])
def test_a_body_that_is_too_long_is_refused_at_once_or_as_soon_as_it_is_seen(serve: Serve, path: str) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(head(BODY_BYTES_MAX + 1, path=path, bearer=token()))
        assert refusal(client) == (413, "request_too_large")
    with served.connect() as client:
        client.sendall(head(None, path=path, bearer=token()) + b"f4241\r\n" + b"x" * 1_000_001)
        assert refusal(client) == (413, "request_too_large")


def test_all_bodies_together_have_a_bound_and_no_organization_takes_it_all(verifier: TokenVerifier) -> None:
    # Without a server: what one client has been read of must be certain before the next one sends.
    app = _app(verifier, BODIES, [])

    async def hold(org_id: str, length: int) -> asyncio.Task[tuple[int, str]]:
        """A client that has sent so much, and then goes away when its task is cancelled."""
        waits, parts = asyncio.Event(), [b"x" * length]

        async def receive() -> Message:
            if not parts:
                waits.set()
                await asyncio.Event().wait()
            return {"type": "http.request", "body": parts.pop(), "more_body": True}

        task = asyncio.create_task(_call(app, org_id, receive))
        await asyncio.wait({task, asyncio.create_task(waits.wait())}, return_when=asyncio.FIRST_COMPLETED)
        return task

    async def post(org_id: str, length: int) -> tuple[int, str]:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"x" * length, "more_body": False}

        return await _call(app, org_id, receive)

    async def scenario() -> None:
        acme = await hold("acme", 800_000)
        assert await post("acme", 300_000) == (503, "busy")
        # Its own half is full; the other organizations' is not.
        assert await post("globex", BODY_BYTES_MAX) == (200, "")
        globex = await hold("globex", 800_000)
        assert await post("initech", 300_000) == (200, "")
        assert await post("initech", 500_000) == (503, "busy")
        refused = await hold("initech", 500_000)
        assert await refused == (503, "busy")
        for task in (acme, globex):
            task.cancel()
        await asyncio.wait({acme, globex})
        # Whoever goes away gives it back.
        assert await post("initech", BODY_BYTES_MAX) == (200, "")
        assert await post("acme", BODY_BYTES_MAX) == (200, "")

    asyncio.run(scenario())


async def _call(app: FastAPI, org_id: str, receive: Receive) -> tuple[int, str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token(org_id)}".encode()), (b"transfer-encoding", b"chunked")]
    path = "/v1/things"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    status = sent[0]["status"]
    return status, "" if status == 200 else json.loads(sent[1]["body"])["code"]


def test_a_body_that_came_too_late_gives_its_room_back(serve: Serve) -> None:
    served = serve(bodies=BODIES._replace(seconds_max=0.5))
    with served.connect() as client:
        client.sendall(head(BODY_BYTES_MAX, bearer=token()) + b"x" * 800_000)
        assert refusal(client) == (408, "request_timeout")
    with served.connect() as client:
        client.sendall(head(900_000, bearer=token()) + b"x" * 900_000)
        assert answer(client)[2] == 900_000


def test_connections_beyond_the_bound_are_told_so_and_far_beyond_it_cut(serve: Serve) -> None:
    served = serve(CONNECTIONS._replace(most=8))
    with ExitStack() as clients:
        for count in range(8):
            clients.enter_context(served.connect())
            served.wait_for_connections(count + 1)
        with served.connect() as client:
            client.sendall(head(3, bearer=token()) + b"abc")
            assert refusal(client) == (503, "busy")
            assert is_cut(client)
        served.wait_for_connections(8)
        with served.connect() as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            assert answer(client)[0] == 200
            clients.enter_context(served.connect())
            served.wait_for_connections(10)
            with served.connect() as further:
                assert is_cut(further)
    served.wait_for_connections(0)
    with served.connect() as client:
        client.sendall(head(3, bearer=token()) + b"abc")
        assert answer(client)[2] == 3


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel cannot bound a send")
@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
def test_whoever_reads_nothing_of_an_answer_is_cut(serve: Serve, more: str) -> None:
    served = serve(CONNECTIONS._replace(send_seconds=1))
    with served.connect(receive_bytes=4096) as client:
        client.sendall(f"GET /large HTTP/1.1\r\nHost: t\r\n{more}\r\n".encode())
        assert client.recv(8) == b"HTTP/1.1"
        served.wait_for_connections(0)
