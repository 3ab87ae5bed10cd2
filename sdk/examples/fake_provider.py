"""A provider for a first try: it answers POST /v1/messages as Anthropic does, and takes any key but one that is empty.

python sdk/examples/fake_provider.py 8790
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_numbers = itertools.count(1)


class Provider(BaseHTTPRequestHandler):
    """Answers every prompt with the same words, and counts four letters as a token. Who offers tools is asked to call
    the first one, once.
    """

    def do_POST(self) -> None:
        """One message, whole or as a stream."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.headers.get("x-api-key"):
            self.answer(401, {"type": "error", "error": {"type": "authentication_error"}})
        elif asked.get("stream"):
            self.stream(message_events(message(asked)))
        else:
            self.answer(200, message(asked))

    def answer(self, status: int, told: object) -> None:
        """The answer as JSON."""
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events: Iterator[dict[str, Any]]) -> None:
        """The answer as server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def message(asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    said = [each["content"] for each in asked["messages"]]
    prompt = "".join(each if isinstance(each, str) else json.dumps(each) for each in said)
    content, reason = [{"type": "text", "text": "A short answer."}], "end_turn"
    if asked.get("tools") and "tool_result" not in prompt:
        tool = asked["tools"][0]["name"]
        content, reason = [{"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": tool, "input": {}}], "tool_use"
    return {
        "id": f"msg_{next(_numbers)}",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": content,
        "stop_reason": reason,
        "usage": {"input_tokens": 1 + len(prompt) // 4, "output_tokens": 3, "service_tier": "standard"},
    }


def message_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same in pieces."""
    yield {
        "type": "message_start",
        "message": answer | {"content": [], "usage": answer["usage"] | {"output_tokens": 1}},
    }
    for word in answer["content"][0].get("text", "").split(" "):
        delta = {"type": "text_delta", "text": f"{word} "}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
    yield {"type": "message_stop"}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
