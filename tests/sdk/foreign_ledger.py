"""What may stand between a runner and the ledger: an HTTP server that answers as it is told, and keeps what it got."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple


class Told(NamedTuple):
    """An answer; a status of 0 cuts the connection."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


Decide = Callable[[list[dict[str, Any]]], Told]


def accepts(events: list[dict[str, Any]]) -> Told:
    """As the ledger where all is well."""
    return Told(202, {"accepted": len(events)})


class ForeignLedger:
    """Answers POST /v1/usage-events by ``decide``, which a test may exchange."""

    def __init__(self, url: str, decide: Decide) -> None:
        """What comes is kept from now on."""
        self.url = url
        self.decide = decide
        self.bodies: list[bytes] = []
        self.taken: dict[str, set[str]] = {}
        """Of each event that was answered as accepted, the bytes in which it came."""

    @property
    def batches(self) -> list[list[dict[str, Any]]]:
        """What came, batch by batch."""
        return [json.loads(body) for body in self.bodies]

    def answer(self, body: bytes) -> Told:
        """What it says to a batch."""
        self.bodies.append(body)
        events = json.loads(body)
        told = self.decide(events)
        if told.status == 202:
            for event in events:
                self.taken.setdefault(event["id"], set()).add(json.dumps(event))
        return told


@contextmanager
def foreign_ledger(decide: Decide = accepts) -> Iterator[ForeignLedger]:
    """The server, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = ledger.answer(self.rfile.read(int(self.headers["Content-Length"])))
            if told.status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in {**told.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    ledger = ForeignLedger(f"http://127.0.0.1:{server.server_port}", decide)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield ledger
    finally:
        server.shutdown()
        server.server_close()
