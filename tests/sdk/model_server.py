"""A server that speaks the APIs of OpenAI (chat completions, responses), Anthropic, Gemini, and those that are alike.

It answers with what ``recorded_answers`` has for the model that is asked for, whole or as a stream, each time under
another id, and keeps what it has served: what it would bill. Who offers it tools is asked to call the first one, once.
"""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.patience import PATIENCE_SECONDS
from tests.sdk.recorded_answers import ANSWERS, ANTHROPIC, Recorded

_CREATED = 1_790_000_000
_AT_FIRST = 2

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
_BY_MODEL = {each.answer.get("model", each.answer.get("modelVersion")): each for each in (*ANSWERS, EMBEDDING)}
_TOOL_RESULTS = ('"role": "tool"', '"tool_result"', '"function_call_output"', '"functionResponse"')


class Served(NamedTuple):
    """One answer that was given, in whole or in part."""

    id: str | None
    """Embeddings have none."""
    recorded: Recorded
    key: str
    """With which it was asked for."""
    asked: str
    """The request's JSON."""


class ProviderServer:
    """Answers POST …/responses, …/messages and …:generateContent as what they are, all else as chat completions."""

    def __init__(self, url: str) -> None:
        """What is served is kept from now on."""
        self.url = url
        self.served: list[Served] = []
        self.failures: list[int] = []
        """Statuses of answers that are still to fail, the next one first."""
        self.compresses = False
        """Whether it does, where the client takes gzip."""
        self.go_on = threading.Event()
        """Streams wait for it after their first events."""
        self.go_on.set()
        self._numbers = itertools.count(1)

    def answer(self, path: str, asked: dict[str, Any], key: str) -> dict[str, Any]:
        """The answer to a request, counted as served."""
        recorded = _BY_MODEL[asked.get("model") or path.rpartition("/")[2].partition(":")[0]]
        answer: dict[str, Any] = recorded.answer | {"created": _CREATED, "created_at": _CREATED}
        if path.endswith("/messages"):
            answer = {"role": "assistant", "content": ANTHROPIC["content"], "stop_reason": "end_turn"} | answer
        number = next(self._numbers)
        for name in {"id", "responseId"} & answer.keys():
            answer[name] += f"-{number}"
        text = json.dumps(asked)
        self.served.append(Served(answer.get("id", answer.get("responseId")), recorded, key, text))
        if asked.get("tools") and not any(result in text for result in _TOOL_RESULTS):
            tool = asked["tools"][0]
            return answer | _asking_for(path, answer, tool.get("name") or tool["function"]["name"], f"call_{number}")
        return answer


def _asking_for(path: str, answer: dict[str, Any], tool: str, call_id: str) -> dict[str, Any]:
    """What is another of an answer that wants a tool to be called."""
    if path.endswith("/messages"):
        return {"content": [{"type": "tool_use", "id": call_id, "name": tool, "input": {}}], "stop_reason": "tool_use"}
    if path.endswith("/responses"):
        item = {"id": f"fc_{call_id}", "call_id": call_id, "name": tool, "arguments": "{}", "status": "completed"}
        return {"output": [{"type": "function_call"} | item, *answer["output"][:-1]]}
    call = {"id": call_id, "type": "function", "function": {"name": tool, "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def chat_chunks(answer: dict[str, Any], *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """A chat completion as a stream, with its usage in the last chunk if that was asked for."""
    same = {name: value for name, value in answer.items() if name not in ("choices", "usage", "object")}
    common = same | {"object": "chat.completion.chunk"}
    choice = answer["choices"][0]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "Hel"}, {"content": "lo."}]
    if calls := choice["message"].get("tool_calls"):
        deltas = [{"role": "assistant", "tool_calls": [{"index": 0} | calls[0]]}]
    for delta, reason in (*((each, None) for each in deltas), ({}, choice["finish_reason"])):
        yield common | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    if with_usage:
        yield common | {"choices": [], "usage": answer["usage"]}


def message_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message of Anthropic's as a stream: the last of its cumulative counts is the one that is billed."""
    known = answer["usage"].keys() & {"output_tokens", "output_tokens_details"}
    at_first = {name: {"output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}[name] for name in known}
    begun = answer | {"content": [], "stop_reason": None, "usage": answer["usage"] | at_first}
    (content,) = answer["content"]
    empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello."}
    if content["type"] == "tool_use":
        empty, delta = content, {"type": "input_json_delta", "partial_json": "{}"}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": empty}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": answer["stop_reason"], "stop_sequence": None},
        "usage": {name: answer["usage"][name] for name in known},
    }
    yield {"type": "message_stop"}


def response_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A response of OpenAI's as a stream."""
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": begun}
    first: dict[str, Any] = answer["output"][0]
    if first["type"] == "function_call":
        unfilled = first | {"arguments": "", "status": "in_progress"}
        place = {"item_id": first["id"], "output_index": 0}
        yield {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": unfilled}
        yield {"type": "response.function_call_arguments.delta", "sequence_number": 2, "delta": "{}"} | place
        yield {"type": "response.function_call_arguments.done", "sequence_number": 3, "arguments": "{}"} | place
        yield {"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": first}
    else:
        yield {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hello.",
            "logprobs": [],
        }
    yield {"type": "response.completed", "sequence_number": 5, "response": answer}


def content_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An answer of Gemini's as a stream; each event counts all until then."""
    content = {"parts": [{"text": "Hel"}], "role": "model"}
    yield answer | {
        "candidates": [{"content": content}],
        "usageMetadata": {"promptTokenCount": 2152, "candidatesTokenCount": 1, "totalTokenCount": 2153},
    }
    yield answer


class _Handler(BaseHTTPRequestHandler):
    """One request; ``provider`` is set by the server that uses it."""

    protocol_version = "HTTP/1.1"
    provider: ProviderServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.provider.failures:
            self.whole({"error": {"type": "made_up", "message": "made up"}}, self.provider.failures.pop(0))
            return
        key = (
            self.headers.get("x-api-key")
            or self.headers.get("x-goog-api-key")
            or self.headers.get("Authorization", "").removeprefix("Bearer ")
        )
        path = self.path.partition("?")[0]
        answer = self.provider.answer(path, asked, key)
        if asked.get("stream") or path.endswith(":streamGenerateContent"):
            self.events(_streamed(path, asked, answer), done="/chat/" in path)
        else:
            self.whole(answer)

    def whole(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode()
        packed = self.head("application/json", status)
        body = gzip.compress(body) if packed else body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, events: Iterator[dict[str, Any]], *, done: bool) -> None:
        packed = self.head("text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with gzip.GzipFile(fileobj=self.wfile, mode="wb") if packed else nullcontext(self.wfile) as file:
            for number, event in enumerate(events):
                if number == _AT_FIRST:
                    file.flush()
                    self.provider.go_on.wait(PATIENCE_SECONDS)
                name = f"event: {event['type']}\n" if "type" in event else ""
                file.write(f"{name}data: {json.dumps(event)}\n\n".encode())
            if done:
                file.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def head(self, content_type: str, status: int = 200) -> bool:
        """Begin an answer; whether it is to be compressed."""
        packed = self.provider.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        return packed

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _streamed(path: str, asked: dict[str, Any], answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if path.endswith("/messages"):
        return message_events(answer)
    if path.endswith("/responses"):
        return response_events(answer)
    if path.endswith(":streamGenerateContent"):
        return content_events(answer)
    return chat_chunks(answer, with_usage=(asked.get("stream_options") or {}).get("include_usage", False))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """How many may connect at the same moment."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever leaves a stream is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def provider_server() -> Iterator[ProviderServer]:
    """The server, on a port of its own."""

    class Handler(_Handler):
        """Of this server alone."""

    server = _Server(("127.0.0.1", 0), Handler)
    provider = ProviderServer(f"http://127.0.0.1:{server.server_port}")
    Handler.provider = provider
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
