"""HTTP: ``openai.OpenAI(http_client=watch(openai.DefaultHttpxClient(), meter))``, and calls within ``tagged``.

Whoever makes the calls, a provider's package or a framework on top of it, asks through a client of httpx (or httpx2,
its successor). What the provider answers is read here as it passes, by the table of its API: nothing that a framework
leaves out is lost. The caller reads the same bytes at the same time.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from functools import cache, partial
from inspect import isasyncgen
from typing import Any, NamedTuple, TypeVar

from byok_sdk.errors import UsageError
from byok_sdk.events import utc_now
from byok_sdk.meter import Meter
from byok_sdk.observed import Observed, Tags
from byok_sdk.observer import Observer, current_tags
from byok_sdk.usage.apis import api_at, asks_for_an_answer
from byok_sdk.usage.wire import ENCODINGS, AnswerBytes

_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    "api.x.ai": "xai",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
}
_ASKED = "byok_sdk"

ClientT = TypeVar("ClientT")


def watch(client: ClientT, meter: Meter, *, provider: str | None = None) -> ClientT:
    """Record each answer that a provider gives to ``client``, sync or async, from now on; it is the same client.

    Whose a call is, is said by ``tagged`` around it. ``provider``, as the rate cards name it, is needed where the host
    does not say it. Recorded are answers of the APIs in ``usage.apis``; all else passes unseen. A client that is
    watched already stays as it is.
    """
    hooks: dict[str, list[Any]] = client.event_hooks  # type: ignore[attr-defined]
    if not any(isinstance(getattr(hook, "__self__", None), _Watch) for hook in hooks["response"]):
        seeing = (_AsyncWatch if hasattr(client, "aclose") else _SyncWatch)(meter, provider)
        # Ours comes first to the answer, before another hook may read it.
        client.event_hooks = {  # type: ignore[attr-defined]
            "request": [*hooks["request"], seeing.asked],
            "response": [seeing.answered, *hooks["response"]],
        }
    return client


class _Asked(NamedTuple):
    """What is known when a request goes out."""

    at: datetime
    tags: Tags
    call_id: str


class _Watch:
    """The two hooks of one client, but for how they are called."""

    def __init__(self, meter: Meter, provider: str | None) -> None:
        self._meter, self._provider = meter, provider

    def _begin(self, request: Any) -> None:
        asked = None
        if request.method == "POST" and asks_for_an_answer(request.url.path):
            asked = _Asked(utc_now(), current_tags(), str(uuid.uuid4()))
            if re.search("br|zstd", request.headers.get("Accept-Encoding", "")):
                request.headers["Accept-Encoding"] = ENCODINGS
        # In the place of one that a redirected request has brought along.
        request.extensions = {**request.extensions, _ASKED: asked}

    def _answer(self, response: Any) -> _Answer | None:
        """The answer that is about to come; None where it is none, or cannot be read."""
        asked: _Asked | None = response.request.extensions.get(_ASKED)
        if asked is None:
            return None
        try:
            if response.is_success:
                return _Answer(self._meter.observer, asked, *self._reader(response))
            if response.status_code in (401, 403):
                self._rejected(asked, response)
        except Exception as error:  # noqa: BLE001 - the call was answered, and its answer is its caller's
            self._meter.observer.failed(error)
        return None

    def _reader(self, response: Any) -> tuple[str, AnswerBytes]:
        url, headers = response.request.url, response.headers
        provider = self._provider or _provider_at(url.host)
        api = api_at(provider, url.path)
        if api is None:
            raise UsageError(f"answers of {provider!r} at {url.path.rpartition('/')[2]!r} are not known")
        # What was read already, of a transport without a network, is not compressed any more.
        encoding = "" if response.is_closed else headers.get("Content-Encoding", "")
        streamed = headers.get("Content-Type", "").startswith("text/event-stream")
        return provider, AnswerBytes(provider, api, streamed=streamed, encoding=encoding)

    def _rejected(self, asked: _Asked, response: Any) -> None:
        provider = self._provider or _provider_at(response.request.url.host)
        told = (asked.tags, provider, f"the provider answered {response.status_code}")
        # Nobody waits for the registry, neither the caller nor what is to be recorded.
        threading.Thread(target=self._meter.key_rejected, args=told, name="byok-sdk-report", daemon=True).start()


class _SyncWatch(_Watch):
    def asked(self, request: Any) -> None:
        self._begin(request)

    def answered(self, response: Any) -> None:
        answer = self._answer(response)
        if answer is not None and response.is_closed:
            answer.see(response.content)
            answer.end()
        elif answer is not None:
            response.stream = _passing(_SyncPassing, response.stream, answer)


class _AsyncWatch(_Watch):
    async def asked(self, request: Any) -> None:
        self._begin(request)

    async def answered(self, response: Any) -> None:
        answer = self._answer(response)
        if answer is not None and response.is_closed:
            answer.see(response.content)
            await answer.end_async()
        elif answer is not None:
            response.stream = _passing(_AsyncPassing, response.stream, answer)


def _provider_at(host: str) -> str:
    for known, provider in _HOSTS.items():
        # Regions stand before it: eu.api.openai.com, us-central1-aiplatform.googleapis.com.
        if re.search(rf"(^|[.-]){re.escape(known)}$", host):
            return provider
    raise UsageError(f"whose answers come from {host} is not known: say it with provider=")


class _Answer:
    """One answer, recorded once: at its end, or when it is left."""

    def __init__(self, observer: Observer, asked: _Asked, provider: str, read: AnswerBytes) -> None:
        self._observer, self._asked, self._provider = observer, asked, provider
        self._read = read
        self._recorded = False
        self._process = os.getpid()
        # It may be thrown away, in the middle of anything, and then it is too late to begin a thread.
        observer.aside.begin()

    def see(self, chunk: bytes) -> bool:
        """Take in what is about to be passed on; whether it is to be recorded before."""
        self._read.see(chunk)
        return self._read.over

    def end(self) -> None:
        if self._first():
            self._observer.see(partial(self._describe, cut=False))

    async def end_async(self) -> None:
        if self._first():
            await self._observer.see_async(partial(self._describe, cut=False))

    def leave(self) -> None:
        # Whoever closes a stream may do so because it is thrown away, too.
        if self._first():
            self._observer.aside.put(partial(self._observer.see, partial(self._describe, cut=True)))

    def _first(self) -> bool:
        # A child throws away what it has inherited; the answer is still its parent's.
        first = not self._recorded and self._process == os.getpid()
        self._recorded = True
        return first

    def _describe(self, *, cut: bool) -> Observed:
        usage = self._read.usage(cut=cut)
        return Observed(self._asked.tags, self._provider, usage, self._asked.at, "http", self._asked.call_id)


class _Passing:
    """Passes the bytes of an answer on. It stands for the stream of the answer, of which it has all else."""

    def __init__(self, stream: Any, answer: _Answer) -> None:
        self._stream, self._answer = stream, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        self._answer.leave()


class _SyncPassing(_Passing):
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if self._answer.see(chunk):
                self._answer.end()
            yield chunk
        self._answer.end()

    def close(self) -> None:
        self._answer.leave()
        self._stream.close()


class _AsyncPassing(_Passing):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._stream.__aiter__()
        async with AsyncExitStack() as stack:
            if isasyncgen(chunks):
                await stack.enter_async_context(aclosing(chunks))
            async for chunk in chunks:
                if self._answer.see(chunk):
                    await self._answer.end_async()
                yield chunk
        await self._answer.end_async()

    async def aclose(self) -> None:
        self._answer.leave()
        await self._stream.aclose()


def _passing(kind: Any, stream: Any, answer: _Answer) -> Any:
    """A stream of the library that made ``stream``: each takes only its own."""
    name = "SyncByteStream" if kind is _SyncPassing else "AsyncByteStream"
    own = next(each for each in type(stream).__mro__ if each.__name__ == name)
    return _with_base(kind, own)(stream, answer)


@cache
def _with_base(kind: Any, base: Any) -> Any:
    return type(kind.__name__, (kind, base), {})
