"""Calls of models through the providers' own packages, watched, against a provider on this machine: ``… PACKAGE``."""

import asyncio
import gc
import os
import sys
from contextlib import ExitStack

from byok_sdk import Meter, tagged
from byok_sdk.hooks.http import watch

URL = os.environ["PROVIDER_URL"]
CHAT, RESPONSES, MESSAGES, CONTENT = "gpt-5.6-2026-03-01", "gpt-6-sol", "claude-sonnet-5", "gemini-3.5-flash"
PROMPT, KEY = "a prompt that nobody may keep", "sk-test-that-nobody-may-keep"
SAID = [{"role": "user", "content": PROMPT}]

meter = Meter.from_env()


def openai() -> None:
    """With both libraries that its clients may be of."""
    import httpx
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

    usage = {"stream": True, "stream_options": {"include_usage": True}}
    told = {"base_url": f"{URL}/v1", "api_key": KEY}
    for made in (DefaultHttpxClient, httpx.Client, httpx2.Client):
        client = OpenAI(http_client=watch(made(), meter, provider="openai"), **told)
        assert client.chat.completions.create(model=CHAT, messages=SAID).choices
        assert list(client.chat.completions.create(model=CHAT, messages=SAID, **usage))
        assert client.responses.create(model=RESPONSES, input=PROMPT).output
        assert list(client.responses.create(model=RESPONSES, input=PROMPT, stream=True))
        assert client.embeddings.create(model="text-embedding-3-small", input=PROMPT).data
        raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=SAID)
        assert raw.parse().choices

    async def ask(made: type) -> None:
        async with AsyncOpenAI(http_client=watch(made(), meter, provider="openai"), **told) as client:
            assert (await client.chat.completions.create(model=CHAT, messages=SAID)).choices
            async for _ in await client.chat.completions.create(model=CHAT, messages=SAID, **usage):
                pass
            async for _ in await client.responses.create(model=RESPONSES, input=PROMPT, stream=True):
                pass

    for made in (DefaultAsyncHttpxClient, httpx.AsyncClient, httpx2.AsyncClient):
        asyncio.run(ask(made))


def anthropic() -> None:
    from anthropic import Anthropic, AsyncAnthropic, DefaultAsyncHttpxClient, DefaultHttpxClient

    asked = {"model": MESSAGES, "messages": SAID, "max_tokens": 9}
    told = {"base_url": URL, "api_key": KEY}
    client = Anthropic(http_client=watch(DefaultHttpxClient(), meter, provider="anthropic"), **told)
    assert client.messages.create(**asked).content
    assert client.beta.messages.create(**asked).content
    assert list(client.messages.create(stream=True, **asked))
    with client.messages.stream(**asked) as stream:
        assert stream.get_final_message().content

    async def ask() -> None:
        http = watch(DefaultAsyncHttpxClient(), meter, provider="anthropic")
        async with AsyncAnthropic(http_client=http, **told) as client:
            assert (await client.messages.create(**asked)).content
            async with client.messages.stream(**asked) as stream:
                assert await stream.get_final_message()

    asyncio.run(ask())


def left() -> None:
    """Streams that are left after their first event, in all the ways in which one leaves a stream."""
    from anthropic import Anthropic, AsyncAnthropic, DefaultAsyncHttpxClient, DefaultHttpxClient

    asked = {"model": MESSAGES, "messages": SAID, "max_tokens": 9, "stream": True}
    told = {"base_url": URL, "api_key": KEY}
    client = Anthropic(http_client=watch(DefaultHttpxClient(), meter, provider="anthropic"), **told)
    for _ in client.messages.create(**asked):
        break
    with client.messages.create(**asked) as stream:
        next(stream)
    stream = client.messages.create(**asked)
    next(stream)
    stream.itself = stream
    del stream
    gc.collect()

    async def ask() -> None:
        http = watch(DefaultAsyncHttpxClient(), meter, provider="anthropic")
        async with AsyncAnthropic(http_client=http, **told) as client:
            async with await client.messages.create(**asked) as stream:
                await anext(aiter(stream))

            async def read() -> None:
                async for _ in await client.messages.create(**asked):
                    begun.set()

            begun = asyncio.Event()
            reading = asyncio.create_task(read())
            await begun.wait()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(ask())


def google() -> None:
    import google.genai as genai
    import httpx

    with ExitStack() as clients:
        sync = clients.enter_context(watch(httpx.Client(), meter, provider="google"))
        options = {"base_url": URL, "httpx_client": sync}
        client = genai.Client(api_key=KEY, http_options=options)
        assert client.models.generate_content(model=CONTENT, contents=PROMPT).candidates
        assert list(client.models.generate_content_stream(model=CONTENT, contents=PROMPT))

    async def ask() -> None:
        async with watch(httpx.AsyncClient(), meter, provider="google") as http:
            client = genai.Client(api_key=KEY, http_options={"base_url": URL, "httpx_async_client": http}).aio
            assert (await client.models.generate_content(model=CONTENT, contents=PROMPT)).candidates
            async for _ in await client.models.generate_content_stream(model=CONTENT, contents=PROMPT):
                pass

    asyncio.run(ask())


def litellm() -> None:
    """In the place of its callbacks: what it asks for through a client that is given to it."""
    import httpx
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

    litellm.suppress_debug_info = True
    told = {"base_url": f"{URL}/v1", "api_key": KEY}
    openai = OpenAI(http_client=watch(DefaultHttpxClient(), meter, provider="openai"), **told)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert litellm.completion(model=f"openai/{CHAT}", messages=SAID, client=openai).choices
    assert list(litellm.completion(model=f"openai/{CHAT}", messages=SAID, client=openai, **usage))
    handler = HTTPHandler(client=watch(httpx.Client(), meter, provider="anthropic"))
    anthropic = {"model": f"anthropic/{MESSAGES}", "messages": SAID, "api_base": URL, "api_key": KEY}
    assert litellm.completion(client=handler, **anthropic).choices
    assert list(litellm.completion(client=handler, **anthropic, **usage))

    async def ask() -> None:
        http = watch(DefaultAsyncHttpxClient(), meter, provider="openai")
        client = AsyncOpenAI(http_client=http, **told)
        async for _ in await litellm.acompletion(model=f"openai/{CHAT}", messages=SAID, client=client, **usage):
            pass
        handler = AsyncHTTPHandler()
        handler.client = watch(httpx.AsyncClient(), meter, provider="anthropic")
        async for _ in await litellm.acompletion(client=handler, **anthropic, **usage):
            pass

    asyncio.run(ask())


if __name__ == "__main__":
    with tagged(meter.run(org="acme", user="u1", team="t1", run_id="r42").tags("plan")):
        globals()[sys.argv[1]]()
    assert meter.close(float(os.environ["PATIENCE_SECONDS"]))
    sys.stdout.write(f"not recorded: {meter.observer.not_recorded}\n")
