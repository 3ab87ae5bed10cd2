"""Answers that are read as they pass a client of httpx: each is one event, and its caller notices nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from byok_sdk import Meter, Settings, tagged
from byok_sdk.hooks.http import watch

from tests.patience import PATIENCE_SECONDS
from tests.sdk.model_server import ProviderServer, provider_server
from tests.sdk.recorded_answers import ANSWERS, Recorded

NOWHERE = "http://127.0.0.1:9"
PROMPT, KEY = "a prompt that nobody may keep", "sk-test-that-nobody-may-keep"
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": PROMPT}]}
ASKED = {"stream": True, "stream_options": {"include_usage": True}}
OF_ONE = [
    each for each in ANSWERS if each.name in ("openai chat", "openai responses", "anthropic", "gemini", "deepseek")
]


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    meter = Meter(Settings(NOWHERE, NOWHERE, tmp_path / "spool", "made-up"))
    yield meter
    meter.close(0)


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with provider_server() as provider:
        yield provider


@pytest.fixture(autouse=True)
def for_somebody(meter: Meter) -> Iterator[None]:
    with tagged(meter.run(org="acme", user="u1", team="t1", run_id="r42").tags("plan")):
        yield


def recorded(meter: Meter) -> list[dict[str, Any]]:
    """The payloads that lie in the spool, when all that was left is recorded."""
    assert meter.observer.aside.settle(PATIENCE_SECONDS)
    return [json.loads(each.body)["data"] for each in meter._emitter._opened().spool.due(1_000, 10**6)]


def request_of(recorded: Recorded, url: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    model = recorded.answer.get("model", recorded.answer.get("modelVersion"))
    more = ASKED if stream else {}
    if recorded.provider == "google":
        return f"{url}/v1beta/models/{model}:{'streamGenerateContent' if stream else 'generateContent'}", {}
    path = {"openai responses": "responses", "anthropic": "messages"}.get(recorded.name, "chat/completions")
    return f"{url}/v1/{path}", {"model": model, "messages": [{"role": "user", "content": PROMPT}]} | more


def called(client: httpx.Client, url: str, body: dict[str, Any]) -> bytes:
    return client.post(url, json=body, headers={"x-api-key": KEY}).raise_for_status().content


async def called_async(url: str, body: dict[str, Any], meter: Meter, provider: str) -> bytes:
    async with watch(httpx.AsyncClient(timeout=PATIENCE_SECONDS), meter, provider=provider) as client:
        answer = await client.post(url, json=body, headers={"x-api-key": KEY})
        return answer.raise_for_status().content


@pytest.mark.parametrize("compresses", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("asked", OF_ONE, ids=lambda each: each.name)
def test_each_answer_is_one_event_and_its_caller_reads_the_same(
    asked: Recorded, stream: bool, compresses: bool, meter: Meter, provider: ProviderServer
) -> None:
    provider.compresses = compresses
    url, body = request_of(asked, provider.url, stream=stream)
    with (
        httpx.Client() as unwatched,
        watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider=asked.provider) as watched,
    ):
        read = [called(unwatched, url, body), called(watched, url, body)]
    read.append(asyncio.run(called_async(url, body, meter, asked.provider)))
    same = {text.replace(f'-{number}"'.encode(), b'"') for number, text in enumerate(read, 1)}
    assert len(same) == 1
    data = recorded(meter)
    assert [each["usage"] for each in data] == [asked.units] * 2
    assert [each["conditions"] for each in data if asked.conditions] == [asked.conditions] * (
        2 if asked.conditions else 0
    )
    assert {each["provider_request_id"] for each in data} == {each.id for each in provider.served[1:]}
    assert {(each["org_id"], each["user_id"], each["team_id"], each["run_id"], each["agent_id"]) for each in data} == {
        ("acme", "u1", "t1", "r42", "plan")
    }
    assert not [each for each in data if "usage_status" in each]
    assert meter.observer.not_recorded == 0


def test_a_client_is_watched_once_and_keeps_its_own_hooks(meter: Meter, provider: ProviderServer) -> None:
    heard: list[int] = []
    own = httpx.Client(event_hooks={"response": [lambda response: heard.append(len(response.read()))]})
    client = watch(watch(own, meter, provider="openai"), meter)
    assert client is own
    called(client, f"{provider.url}/v1/embeddings", {"model": "text-embedding-3-small", "input": PROMPT})
    # It has no id of the provider's, by which a second telling would be known.
    assert len(recorded(meter)) == len(heard) == 1


@pytest.mark.parametrize("how", ["closed", "thrown away", "async"])
def test_a_stream_that_is_left_is_partial(how: str, meter: Meter, provider: ProviderServer) -> None:
    provider.go_on.clear()
    url, body = f"{provider.url}/v1/messages", MESSAGE | {"stream": True}

    async def leave() -> None:
        client = watch(httpx.AsyncClient(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
        async with client, client.stream("POST", url, json=body) as answer:
            await anext(answer.aiter_lines())

    def begin(client: httpx.Client) -> httpx.Response:
        answer = client.send(client.build_request("POST", url, json=body), stream=True)
        next(answer.iter_lines())
        return answer

    if how == "async":
        asyncio.run(leave())
    else:
        client = watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
        answer = begin(client)
        if how == "closed":
            answer.close()
        del answer, client
        gc.collect()
    provider.go_on.set()
    (data,) = recorded(meter)
    assert data["usage_status"] == "partial"
    assert (data["usage"]["input"], data["usage"]["output"]) == (8246, 1)
    assert meter.observer.not_recorded == 0


def test_a_stream_that_is_left_before_it_told_anything_is_counted(
    meter: Meter, provider: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "gpt-5.6-2026-03-01", "messages": [], "stream": True}
    with (
        watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="openai") as client,
        caplog.at_level(logging.ERROR),
    ):
        called(client, f"{provider.url}/v1/chat/completions", body)
        assert not recorded(meter)
    assert "include_usage" in caplog.text
    assert meter.observer.not_recorded == 1


def test_a_child_throws_away_what_it_inherited_and_records_nothing_of_it(
    meter: Meter, provider: ProviderServer
) -> None:
    provider.go_on.clear()
    body = MESSAGE | {"stream": True}
    client = watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
    with client.stream("POST", f"{provider.url}/v1/messages", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: message_start"
        child = os.fork()
        if child == 0:
            answer.close()
            settled = meter.observer.aside.settle(PATIENCE_SECONDS)
            os._exit(0 if settled and meter.counts().accepted == meter.observer.not_recorded == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        provider.go_on.set()
        assert list(lines)
    (data,) = recorded(meter)
    assert (data["usage"], data.get("usage_status")) == (ANSWERS[3].units, None)


def test_an_answer_that_is_thrown_away_unread_is_counted(meter: Meter, provider: ProviderServer) -> None:
    client = watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
    answer = client.send(client.build_request("POST", f"{provider.url}/v1/messages", json=MESSAGE), stream=True)
    assert answer.is_success
    del answer, client
    gc.collect()
    assert not recorded(meter)
    assert meter.observer.not_recorded == 1


@pytest.mark.parametrize("compresses", [False, True], ids=["plain", "gzip"])
def test_what_the_caller_reads_does_not_wait_for_the_rest(
    compresses: bool, meter: Meter, provider: ProviderServer
) -> None:
    provider.compresses = compresses
    provider.go_on.clear()
    client = watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
    with client, client.stream("POST", f"{provider.url}/v1/messages", json=MESSAGE | {"stream": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: message_start"
        provider.go_on.set()
        assert next(line for line in lines if "message_stop" in line)
        # It is on disk before its last piece is read, for many leave it there.
        assert meter.counts().accepted == 1
    assert recorded(meter)[0]["usage"] == ANSWERS[3].units


def test_failures_are_no_calls_and_each_answer_of_a_retry_is_one(meter: Meter, provider: ProviderServer) -> None:
    provider.failures = [500, 429, 400]
    with watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic") as client:
        statuses = [client.post(f"{provider.url}/v1/messages", json=MESSAGE).status_code for _ in range(5)]
    assert statuses == [500, 429, 400, 200, 200]
    assert len({each["provider_request_id"] for each in recorded(meter)}) == 2
    assert meter.observer.not_recorded == 0


def test_calls_side_by_side_are_each_of_whom_they_are(meter: Meter, provider: ProviderServer) -> None:
    url = f"{provider.url}/v1/messages"

    def whose(number: int) -> Any:
        return tagged(meter.run(org="acme", user=f"u{number}", run_id=f"r{number}").tags("plan"))

    with (
        watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic") as client,
        ThreadPoolExecutor(8) as threads,
    ):

        def call(number: int) -> None:
            with whose(number):
                called(client, url, MESSAGE | {"system": f"u{number}"})

        list(threads.map(call, range(20)))

    async def calls() -> None:
        async with watch(httpx.AsyncClient(timeout=PATIENCE_SECONDS), meter, provider="anthropic") as client:

            async def one(number: int) -> None:
                with whose(number):
                    await client.post(url, json=MESSAGE | {"system": f"u{number}", "stream": True})

            await asyncio.gather(*map(one, range(20, 40)))

    asyncio.run(calls())
    asked = {each.id: json.loads(each.asked)["system"] for each in provider.served}
    told = {each["provider_request_id"]: each["user_id"] for each in recorded(meter)}
    assert told == asked
    assert Counter(told.values()) == {f"u{number}": 1 for number in range(40)}


def test_a_failure_of_ours_is_counted_and_never_the_caller_s(
    meter: Meter, provider: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        called(watch(httpx.Client(timeout=PATIENCE_SECONDS), meter), f"{provider.url}/v1/messages", MESSAGE)
        called(
            watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="xai"), f"{provider.url}/v1/messages", MESSAGE
        )
        anthropic = watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic")
        with tagged({}):
            called(anthropic, f"{provider.url}/v1/messages", MESSAGE)
        meter.close(0)
        called(anthropic, f"{provider.url}/v1/messages", MESSAGE)
    for said in ("from 127.0.0.1 is not known", "'xai' at 'messages'", "byok_org, byok_user is missing", "was closed"):
        assert caplog.text.count(said) == 1
    assert meter.observer.not_recorded == 4
    assert PROMPT not in caplog.text
    assert KEY not in caplog.text


def test_hosts_say_whose_the_answers_are(meter: Meter) -> None:
    hosts = {
        "https://eu.api.openai.com/v1/responses": ("openai", ANSWERS[2]),
        "https://api.anthropic.com/v1/messages?beta=true": ("anthropic", ANSWERS[3]),
        "https://us-central1-aiplatform.googleapis.com/v1/models/m:generateContent": ("google", ANSWERS[6]),
        "https://api.x.ai/v1/chat/completions": ("xai", ANSWERS[8]),
    }
    answers = httpx.MockTransport(lambda request: httpx.Response(200, json=hosts[str(request.url)][1].answer))
    with watch(httpx.Client(transport=answers), meter) as client:
        for url in hosts:
            client.post(url)

    async def once_more() -> None:
        async with watch(httpx.AsyncClient(transport=answers), meter) as client:
            # The same id of an answer is the same answer.
            await client.post(next(iter(hosts)))

    asyncio.run(once_more())
    assert [(each["provider"], each["usage"]) for each in recorded(meter)] == [
        (provider, answer.units) for provider, answer in hosts.values()
    ]
    assert meter.observer.not_recorded == 0


def test_a_key_that_the_provider_does_not_take_is_reported_once(tmp_path: Path, provider: ProviderServer) -> None:
    reports: list[tuple[str, dict[str, Any]]] = []
    reported = threading.Event()
    lease = {
        "provider": "anthropic",
        "source": "byok",
        "reason": "personal_key",
        "credential_id": "c-1",
        "at": "2026-11-29T09:30:00Z",
        "expires_at": "2026-11-29T09:35:00Z",
        "ttl_seconds": 300,
        "secret": KEY,
    }

    class Registry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/lease":
                reports.append((self.path, body))
            self.answer(lease if self.path == "/v1/lease" else {"kept": True})
            if self.path != "/v1/lease":
                reported.set()

        def do_GET(self) -> None:
            self.answer({"changes": [], "next": 1})

        def answer(self, told: object) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings = Settings(f"http://127.0.0.1:{server.server_port}", NOWHERE, tmp_path / "spool", "made-up")
        with (
            Meter(settings) as meter,
            watch(httpx.Client(timeout=PATIENCE_SECONDS), meter, provider="anthropic") as client,
        ):
            run = meter.run(org="acme", user="u1")
            provider.failures = [401, 403, 401]
            with tagged(run.tags("plan", lease=run.key("anthropic"))):
                client.post(f"{provider.url}/v1/messages", json=MESSAGE)
                assert reported.wait(PATIENCE_SECONDS)
                # Its lease is gone, so what still fails with it is no news.
                client.post(f"{provider.url}/v1/messages", json=MESSAGE)
            client.post(f"{provider.url}/v1/messages", json=MESSAGE)
            assert meter.observer.not_recorded == 0
        server.shutdown()
    ((path, body),) = reports
    assert path == "/v1/credentials/c-1/reports"
    assert (body["outcome"], body["detail"]) == ("rejected", "the provider answered 401")
