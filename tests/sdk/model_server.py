"""A server that speaks the APIs of OpenAI (chat completions, responses) and Anthropic, and those that are alike.

It answers with what ``recorded_answers`` has for the model that is asked for, whole or as a stream, each time under
another id, and keeps what it has served: what it would bill.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.sdk.recorded_answers import ANSWERS, Recorded

_CREATED = 1_790_000_000

EMBEDDING = Recorded(
    "openai embedding",
    "openai",
    {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    },
    {"input": 8, "output": 0},
    {},
)
_BY_MODEL = {each.answer["model"]: each for each in (*ANSWERS, EMBEDDING) if "model" in each.answer}


class Served(NamedTuple):
    """One answer that was given, in whole or in part."""

    id: str | None
    """Embeddings have none."""
    recorded: Recorded
    key: str
    """With which it was asked for."""


class ProviderServer:
    """Answers POST …/responses and …/messages as what they are, all else as chat completions."""

    def __init__(self, url: str) -> None:
        """What is served is kept from now on."""
        self.url = url
        self.served: list[Served] = []
        self.failures: list[int] = []
        """Statuses of answers that are still to fail, the next one first."""
        self._numbers = itertools.count(1)

    def answer(self, asked: dict[str, Any], key: str) -> dict[str, Any]:
        """The answer to a request, counted as served."""
        recorded = _BY_MODEL[asked["model"]]
        answer: dict[str, Any] = recorded.answer | {"created": _CREATED, "created_at": _CREATED}
        if "id" in answer:
            answer["id"] += f"-{next(self._numbers)}"
        self.served.append(Served(answer.get("id"), recorded, key))
        return answer


def chat_chunks(answer: dict[str, Any], *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """A chat completion as a stream, with its usage in the last chunk if that was asked for."""
    same = {name: value for name, value in answer.items() if name not in ("choices", "usage", "object")}
    common = same | {"object": "chat.completion.chunk"}
    for delta, reason in (({"role": "assistant", "content": "Hel"}, None), ({"content": "lo."}, None), ({}, "stop")):
        yield common | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    if with_usage:
        yield common | {"choices": [], "usage": answer["usage"]}


def message_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message of Anthropic's as a stream: the last of its cumulative counts is the one that is billed."""
    begun = answer | {"content": [], "stop_reason": None, "usage": answer["usage"] | {"output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": answer["usage"]["output_tokens"]},
    }
    yield {"type": "message_stop"}


def response_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A response of OpenAI's as a stream."""
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": begun}
    yield {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hello.",
        "logprobs": [],
    }
    yield {"type": "response.completed", "sequence_number": 2, "response": answer}


class _Handler(BaseHTTPRequestHandler):
    """One request; ``provider`` is set by the server that uses it."""

    protocol_version = "HTTP/1.1"
    provider: ProviderServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.provider.failures:
            self.whole({"error": {"type": "made_up", "message": "made up"}}, self.provider.failures.pop(0))
            return
        key = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        answer = self.provider.answer(asked, key)
        if asked.get("stream"):
            self.events(_streamed(self.path, asked, answer), done="/chat/" in self.path)
        else:
            self.whole(answer)

    def whole(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, events: Iterator[dict[str, Any]], *, done: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        if done:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _streamed(path: str, asked: dict[str, Any], answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if path.endswith("/messages"):
        return message_events(answer)
    if path.endswith("/responses"):
        return response_events(answer)
    return chat_chunks(answer, with_usage=(asked.get("stream_options") or {}).get("include_usage", False))


@contextmanager
def provider_server() -> Iterator[ProviderServer]:
    """The server, on a port of its own."""

    class Handler(_Handler):
        """Of this server alone."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider = ProviderServer(f"http://127.0.0.1:{server.server_port}")
    Handler.provider = provider
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
