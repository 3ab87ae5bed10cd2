"""A server on this machine that plays the providers: it refuses one bad key, and answers as their references say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.patience import PATIENCE_SECONDS

GOOD = "made-up-key-that-every-provider-takes-4321"
BAD = "made-up-key-that-no-provider-takes-9999"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Seen(NamedTuple):
    """A request as it arrived."""

    path: str
    headers: dict[str, str]


class Documented(NamedTuple):
    """How a provider is asked, and what it says to a key that it takes and to one that it does not."""

    path: str
    header: str
    prefix: str
    taken: dict[str, Any]
    refused: tuple[int, dict[str, Any]]


_WRONG = {"error": {"message": "Incorrect API key provided: made*9999.", "type": "x", "code": "invalid_api_key"}}
_GOOGLE = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}
_ANTHROPIC = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
_LIST = {"object": "list", "data": [{"id": "some-model", "object": "model"}]}
_XAI = {"redacted_api_key": "xai-...1234", "api_key_blocked": False, "api_key_disabled": False, "team_blocked": False}
_BALANCE = {"is_available": True, "balance_infos": [{"currency": "USD", "total_balance": "110.00"}]}
DOCUMENTED = {
    "openai": Documented("/v1/models", "authorization", "Bearer ", _LIST, (401, _WRONG)),
    "anthropic": Documented("/v1/models?limit=1", "x-api-key", "", {"data": [], "has_more": True}, (401, _ANTHROPIC)),
    "google": Documented("/v1beta/models?pageSize=1", "x-goog-api-key", "", {"models": []}, (400, _GOOGLE)),
    "xai": Documented("/v1/api-key", "authorization", "Bearer ", _XAI, (400, {"code": "x", "error": "Incorrect key"})),
    "deepseek": Documented("/user/balance", "authorization", "Bearer ", _BALANCE, (401, _WRONG)),
    "fireworks": Documented(
        "/inference/v1/models", "authorization", "Bearer ", _LIST, (401, {"error": "unauthorized"})
    ),
}


class ProviderServer:
    """What it answers can be changed at any time; it remembers who asked."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: list[Seen] = []
        self.answer: Answer = documented

    @property
    def base_urls(self) -> dict[str, str]:
        """For all providers, told apart by the beginning of the path."""
        return {name: f"{self.url}/{name}" for name in DOCUMENTED}


def reply(status: int, body: object = None, **headers: str) -> Answer:
    """Always this answer; a body of bytes goes as it is."""
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        ).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def documented(request: BaseHTTPRequestHandler) -> None:
    """What the provider would say."""
    _, name, path = request.path.split("/", 2)
    provider = DOCUMENTED[name]
    if f"/{path}" != provider.path:
        reply(404)(request)
        return
    key = request.headers.get(provider.header, "")
    taken = len(key) > len(provider.prefix) and key.startswith(provider.prefix) and not key.endswith(BAD)
    reply(*((200, provider.taken) if taken else provider.refused))(request)


@contextmanager
def provider_server() -> Iterator[ProviderServer]:
    """A server on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.provider.seen.append(Seen(self.path, {name.lower(): value for name, value in self.headers.items()}))
            server.provider.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        provider: ProviderServer

        def handle_error(self, *_: object) -> None:
            # That a client goes away in the middle of an answer is what some tests are about.
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.provider = ProviderServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_SECONDS)
