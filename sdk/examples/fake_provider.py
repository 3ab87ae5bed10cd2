"""A provider for a first try: it answers POST /v1/messages as Anthropic does, and takes any key but one that is empty.

python sdk/examples/fake_provider.py 8790
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Provider(BaseHTTPRequestHandler):
    """Answers every prompt with the same words, and counts four letters as a token."""

    def do_POST(self) -> None:
        """One message."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.headers.get("x-api-key"):
            self.answer(401, {"type": "error", "error": {"type": "authentication_error"}})
            return
        prompt = "".join(message["content"] for message in asked["messages"])
        usage = {"input_tokens": 1 + len(prompt) // 4, "output_tokens": 3, "service_tier": "standard"}
        content = [{"type": "text", "text": "A short answer."}]
        self.answer(
            200, {"id": "msg_1", "type": "message", "model": asked["model"], "content": content, "usage": usage}
        )

    def answer(self, status: int, told: object) -> None:
        """The answer as JSON."""
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
