"""Answers as bytes that pass by: in whatever pieces they come, what they used is what the whole answer says."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from byok_sdk.errors import UsageError, UsageMissingError
from byok_sdk.usage import wire
from byok_sdk.usage.apis import EMBEDDINGS, api_at, asks_for_an_answer
from byok_sdk.usage.extraction import api_of
from byok_sdk.usage.wire import AnswerBytes

from tests.sdk.model_server import EMBEDDING
from tests.sdk.recorded_answers import ANSWERS, ANTHROPIC, GEMINI_STREAM, STREAMS, Recorded, Streamed

PATHS = {
    "openai chat completions": "/v1/chat/completions",
    "openai responses": "/v1/responses",
    "anthropic messages": "/v1/messages",
    "gemini generateContent": "/v1beta/models/gemini-3.5-flash:generateContent",
    "xai chat completions": "/v1/chat/completions",
    "deepseek chat completions": "/chat/completions",
    "fireworks chat completions": "/inference/v1/chat/completions",
}
PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


def named(each: Recorded | Streamed) -> str:
    return each.name


def read(provider: str, path: str, body: bytes, *, streamed: bool, encoding: str = "", pieces: int = 7) -> AnswerBytes:
    api = api_at(provider, path)
    assert api is not None
    answer = AnswerBytes(provider, api, streamed=streamed, encoding=encoding)
    for start in range(0, len(body), pieces):
        answer.see(body[start : start + pieces])
    return answer


def of_stream(streamed: Streamed, events: int | None = None) -> AnswerBytes:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in streamed.events[:events])
    return read(streamed.provider, path_of(streamed), text.encode(), streamed=True)


def path_of(streamed: Streamed) -> str:
    by_name = {"openai chat": "/chat/completions", "xai": "/chat/completions", "openai responses": "/responses"}
    return by_name.get(
        streamed.name, {"anthropic": "/messages", "google": "x:streamGenerateContent"}.get(streamed.provider, "")
    )


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("recorded", ANSWERS, ids=named)
def test_a_whole_answer_says_what_it_used(recorded: Recorded, encoding: str) -> None:
    path = PATHS[api_of(recorded.answer, recorded.provider).name]
    body = PACKED[encoding](json.dumps(recorded.answer).encode())
    usage = read(recorded.provider, path, body, streamed=False, encoding=encoding).usage(cut=False)
    assert (usage.units, usage.conditions, usage.cost_usd) == (recorded.units, recorded.conditions, recorded.cost_usd)


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pieces", [1, 13, 10**6])
@pytest.mark.parametrize("streamed", STREAMS, ids=named)
def test_a_stream_says_what_it_used_in_whatever_pieces_it_comes(
    streamed: Streamed, pieces: int, end: str, encoding: str
) -> None:
    lines = [": a comment", "id: 1", ""]
    for event in streamed.events:
        lines += [f"event: {event.get('type', 'x')}", f"data:{json.dumps(event)}", ""]
    lines += ["data: [DONE]", "", ""]
    body = PACKED[encoding](end.join(lines).encode())
    answer = read(streamed.provider, path_of(streamed), body, streamed=True, encoding=encoding, pieces=pieces)
    usage = answer.usage(cut=False)
    assert (usage.units, usage.status) == (streamed.units, "final")


@pytest.mark.parametrize("streamed", STREAMS, ids=named)
def test_a_stream_that_is_cut_is_partial_or_tells_nothing(streamed: Streamed) -> None:
    answer = of_stream(streamed, streamed.cut_after)
    assert not answer.over
    if streamed.known is None:
        with pytest.raises(UsageMissingError, match="said nothing of its usage"):
            answer.usage(cut=True)
        return
    usage = answer.usage(cut=True)
    assert (usage.units, usage.status) == (streamed.known, "partial")


def test_a_stream_is_over_once_nothing_can_come_any_more() -> None:
    over = {streamed.name: of_stream(streamed).over for streamed in STREAMS}
    # Chats say [DONE], which these do not have, and Gemini says nothing.
    assert over == {"openai chat": False, "xai": False, "openai responses": True, "anthropic": True, "gemini": False}
    chat = next(each for each in STREAMS if each.name == "openai chat")
    answer = of_stream(chat)
    answer.see(b"data: [DONE]\n\n")
    assert answer.over


def test_an_event_that_is_not_ended_is_one_at_the_end() -> None:
    chat = STREAMS[0]
    text = "\n\n".join(f"data: {json.dumps(event)}" for event in chat.events)
    assert read("openai", "/chat/completions", text.encode(), streamed=True).usage(cut=False).units == chat.units


def test_a_stream_of_gemini_may_be_one_list() -> None:
    body = json.dumps(GEMINI_STREAM).encode()
    usage = read("google", "/models/x:streamGenerateContent", body, streamed=False).usage(cut=False)
    assert (usage.units, usage.status) == ({"input": 5, "output": 3}, "final")


def test_embeddings_have_no_output() -> None:
    body = json.dumps(EMBEDDING.answer).encode()
    usage = read("openai", "/v1/embeddings", body, streamed=False).usage(cut=False)
    assert (usage.units, usage.response_id) == (EMBEDDING.units, None)


@pytest.mark.parametrize(
    ("body", "encoding", "cut", "said"),
    [
        (b'{"a prompt', "", False, "no JSON"),
        (b"[" * 100_000, "", False, "no JSON"),
        (b"{}", "br", False, "encoding 'br' cannot be read"),
        (b'{"usage": {"input_tokens": 1}}', "", False, "usage.output_tokens is missing"),
        (b'{"usage": {"input_tok', "", True, "left before its end"),
        (b'{"text": "' + b"x" * 5_000 + b'"}', "", False, "more than 4096 bytes"),
        (gzip.compress(b"x" * 1_000_000), "gzip", False, "more than 4096 bytes"),
    ],
)
def test_what_cannot_be_read_is_said_at_the_end_without_its_text(
    body: bytes, encoding: str, cut: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "4096" in said:
        monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 4096)
    answer = read("anthropic", "/v1/messages", body, streamed=False, encoding=encoding, pieces=10**6)
    with pytest.raises(UsageError, match=said) as caught:
        answer.usage(cut=cut)
    assert "prompt" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_no_gzip_is_an_error_too() -> None:
    answer = read("anthropic", "/v1/messages", json.dumps(ANTHROPIC).encode(), streamed=False, encoding="gzip")
    with pytest.raises(zlib.error):
        answer.usage(cut=False)


def test_of_a_stream_no_more_than_one_event_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 4096)
    anthropic = next(each for each in STREAMS if each.name == "anthropic")
    delta = {"type": "content_block_delta", "delta": {"text": "x" * 1_000}}
    first, *rest = anthropic.events
    long = anthropic._replace(events=[first, *[delta] * 50, *rest])
    assert of_stream(long).usage(cut=False).units == anthropic.units
    longer = anthropic._replace(events=[first, delta | {"more": "x" * 5_000}, *rest])
    with pytest.raises(UsageError, match="more than 4096 bytes"):
        of_stream(longer).usage(cut=False)


@pytest.mark.parametrize(
    ("provider", "path", "name"),
    [
        *[(name.split()[0].replace("gemini", "google"), path, name) for name, path in PATHS.items()],
        ("openai", "/v1/embeddings", EMBEDDINGS.name),
        ("deepseek", "/beta/completions", "deepseek chat completions"),
        ("openai", "/v1/messages", None),
        ("xai", "/v1/responses", None),
        ("mistral", "/v1/chat/completions", None),
    ],
)
def test_where_a_request_goes_says_which_api_answers(provider: str, path: str, name: str | None) -> None:
    assert asks_for_an_answer(path)
    api = api_at(provider, path)
    assert (api and api.name) == name


@pytest.mark.parametrize(
    "path", ["/v1/messages/count_tokens", "/v1/responses/resp_1/cancel", "/v1/files", "/v1/models/x:countTokens", "/"]
)
def test_other_requests_ask_for_no_answer(path: str) -> None:
    assert not asks_for_an_answer(path)
