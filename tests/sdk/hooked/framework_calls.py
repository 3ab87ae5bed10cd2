"""Agents of a framework that call a model and a tool, against a provider on this machine: ``… FRAMEWORK``.

Three agents side by side, each for another user, in each way in which the framework asks a model.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from byok_sdk import Meter, tagged
from byok_sdk.hooks.http import watch

URL = os.environ["PROVIDER_URL"]
CHAT, RESPONSES, MESSAGES, CONTENT = "gpt-5.6-2026-03-01", "gpt-6-sol", "claude-sonnet-5", "gemini-3.5-flash"
PROMPT, KEY = "a prompt that nobody may keep", "sk-test-that-nobody-may-keep"
AGENTS = ("reader", "writer", "critic")

meter = Meter.from_env()


@contextmanager
def user_of(agent: str) -> Iterator[None]:
    with tagged(meter.run(org="acme", user=f"user of {agent}", team="t1", run_id="r42").tags("unnamed")):
        yield


def instructions(agent: str) -> str:
    return f"You are the {agent}."


def failing() -> str:
    raise ValueError("what went wrong may be told to nobody")


def search() -> str:
    """Search."""
    return "found"


async def side_by_side(ask: Callable[[str], Awaitable[None]]) -> None:
    async def one(agent: str) -> None:
        with user_of(agent):
            await ask(agent)

    await asyncio.gather(*map(one, AGENTS))


async def openai_agents() -> None:
    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        function_tool,
        set_trace_processors,
    )
    from byok_sdk.hooks.openai_agents import ByokTracingProcessor
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    set_trace_processors([ByokTracingProcessor(meter)])
    http = watch(DefaultAsyncHttpxClient(), meter, provider="openai")
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, http_client=http)
    for model in (OpenAIResponsesModel(RESPONSES, client), OpenAIChatCompletionsModel(CHAT, client)):
        for tool in (search, failing):

            async def ask(name: str, *, model=model, tool=tool) -> None:
                agent = Agent(
                    name,
                    instructions=instructions(name),
                    model=model,
                    model_settings=ModelSettings(include_usage=True),
                    tools=[function_tool(tool)],
                )
                assert (await Runner.run(agent, PROMPT)).final_output
                async for _ in Runner.run_streamed(agent, PROMPT).stream_events():
                    pass

            await side_by_side(ask)


async def langchain() -> None:
    from byok_sdk.hooks.langchain import ByokMiddleware, watch_model
    from langchain.agents import create_agent
    from langchain_anthropic import ChatAnthropic
    from langchain_core.caches import InMemoryCache
    from langchain_openai import ChatOpenAI

    openai = {"base_url": f"{URL}/v1", "api_key": KEY, "stream_usage": True}
    models = (
        watch_model(ChatOpenAI(model=CHAT, use_responses_api=False, **openai), meter, provider="openai"),
        watch_model(ChatOpenAI(model=RESPONSES, use_responses_api=True, **openai), meter, provider="openai"),
        watch_model(ChatAnthropic(model=MESSAGES, base_url=URL, api_key=KEY), meter, provider="anthropic"),
    )
    with suppress(TypeError):
        watch_model(object(), meter)
        raise AssertionError("a model that asks in an unknown way is not to pass for watched")
    said = {"messages": [{"role": "user", "content": PROMPT}]}
    middleware = [ByokMiddleware(meter)]
    for model in models:

        async def ask(name: str, *, model=model) -> None:
            agent = create_agent(model, [search], name=name, system_prompt=instructions(name), middleware=middleware)
            assert (await agent.ainvoke(said))["messages"]
            async for _ in agent.astream(said, stream_mode="messages"):
                pass
            # LangChain hands its own threads what it was called within.
            assert (await asyncio.to_thread(agent.invoke, said))["messages"]
            assert await asyncio.to_thread(lambda: list(agent.stream(said, stream_mode="messages")))

        await side_by_side(ask)
    # Whose it is may be said by LangChain's own metadata, too.
    run = meter.run(org="acme", user="user of reader", team="t1", run_id="r42")
    agent = create_agent(models[0], [], name="reader", system_prompt=instructions("reader"), middleware=middleware)
    agent.invoke(said, config={"metadata": run.tags("unnamed")})
    # Two answers, of which the provider gave one.
    cached = ChatOpenAI(model=CHAT, use_responses_api=False, cache=InMemoryCache(), **openai)
    with user_of("reader"):
        for _ in range(2):
            assert watch_model(cached, meter).invoke([("system", instructions("unnamed")), ("user", PROMPT)]).content


async def pydantic_ai() -> None:
    from byok_sdk.hooks.pydantic_ai import ByokCapability
    from httpx2 import AsyncClient
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    http = {name: watch(AsyncClient(), meter, provider=name) for name in ("openai", "anthropic")}
    openai = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY, http_client=http["openai"])
    models = (
        OpenAIChatModel(CHAT, provider=openai),
        OpenAIResponsesModel(RESPONSES, provider=openai),
        AnthropicModel(MESSAGES, provider=AnthropicProvider(base_url=URL, api_key=KEY, http_client=http["anthropic"])),
    )
    for model in models:

        async def ask(name: str, *, model=model) -> None:
            agent = Agent(
                model,
                name=name,
                system_prompt=instructions(name),
                tools=[search],
                capabilities=[ByokCapability(meter)],
            )
            assert (await agent.run(PROMPT)).output
            async with agent.run_stream(PROMPT) as streamed:
                assert await streamed.get_output()

        await side_by_side(ask)


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]]())
    assert meter.close(float(os.environ["PATIENCE_SECONDS"]))
    sys.stdout.write(f"not recorded: {meter.observer.not_recorded}\n")
