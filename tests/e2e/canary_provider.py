"""A provider of models that is as talkative as it can be: every answer repeats the key, and there is every answer."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.e2e.canaries import SHAPES

_STATUSES = (200, 401, 302, 400, 403, 429, 500)
ANSWERS = len(_STATUSES)
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


@contextmanager
def talkative_provider() -> Iterator[dict[str, Any]]:
    """Yields the settings that send every question about a key to it."""
    statuses = itertools.cycle(_STATUSES)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = next(statuses)
            key = " ".join(value for name in _KEY_HEADERS if (value := self.headers.get(name)))
            error = {"code": "invalid_api_key", "type": "authentication_error", "status": key, "message": f"bad {key}"}
            body = json.dumps({"error": error, "data": [{"id": key}], "models": [key], "api_key": key}).encode()
            self.send_response(status)
            self.send_header("Location", f"/{key}")
            self.send_header("X-Key", key)
            self.send_header("Set-Cookie", f"key={key}")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {"BYOK_PROVIDER_URLS": json.dumps(dict.fromkeys(SHAPES, url))}
    finally:
        server.shutdown()
        server.server_close()
