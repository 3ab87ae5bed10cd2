"""Calls of models through LiteLLM, one for each way in which it makes them, against a provider on this machine."""

import asyncio
import atexit
import os
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import litellm
from byok_sdk import Meter
from byok_sdk.hooks.litellm import ByokLogger
from litellm.caching.caching import Cache
from litellm.integrations.custom_logger import CustomLogger

URL = os.environ["PROVIDER_URL"]
PROMPT = [{"role": "user", "content": "a prompt that nobody may keep"}]
KEY = "sk-test-that-nobody-may-keep-"
ASKED = {"stream": True, "stream_options": {"include_usage": True}}

meter = Meter.from_env()
run = meter.run(org="acme", user="u1", team="t1", run_id="r42")
logger = ByokLogger(meter)
litellm.suppress_debug_info = True
litellm.callbacks = [logger]


OPENAI, ANTHROPIC = "openai/gpt-5.6-2026-03-01", "anthropic/claude-sonnet-5"


def via(model: str, doing: str, **more: object) -> dict[str, object]:
    """How to reach the provider; the key says for what."""
    base = URL if model.startswith("anthropic/") else f"{URL}/v1"
    return {"model": model, "api_base": base, "api_key": KEY + doing} | more


def to(model: str, doing: str, **more: object) -> dict[str, object]:
    return via(model, doing, messages=PROMPT, **{"metadata": run.tags(doing)} | more)


def response(doing: str, **more: object) -> dict[str, object]:
    said = PROMPT[0]["content"]
    return via("openai/gpt-6-sol", doing, input=said, litellm_metadata=run.tags(doing), **more)


def message(model: str, doing: str, **more: object) -> dict[str, object]:
    return via(model, doing, messages=PROMPT, max_tokens=10, litellm_metadata=run.tags(doing), **more)


def threads() -> None:
    litellm.completion(**to(OPENAI, "threads"))
    litellm.completion(**to(ANTHROPIC, "threads"))
    for model in (OPENAI, ANTHROPIC):
        list(litellm.completion(**to(model, "threads", **ASKED)))
    litellm.responses(**response("threads"))
    list(litellm.responses(**response("threads", stream=True)))


async def loop() -> None:
    for model in (
        OPENAI,
        ANTHROPIC,
        "xai/grok-4-1-fast-reasoning",
        "xai/grok-5",
        "deepseek/deepseek-chat",
        "fireworks_ai/accounts/fireworks/models/kimi-k2p5",
    ):
        await litellm.acompletion(**to(model, "loop"))
        async for _ in await litellm.acompletion(**to(model, "loop", **ASKED)):
            pass
    await litellm.aresponses(**response("loop"))
    async for _ in await litellm.aresponses(**response("loop", stream=True)):
        pass
    await litellm.anthropic.messages.acreate(**message(ANTHROPIC, "loop"))
    async for _ in await litellm.anthropic.messages.acreate(**message(ANTHROPIC, "loop", stream=True)):
        pass
    # One call of LiteLLM's that is carried out as another, within itself.
    await litellm.anthropic.messages.acreate(**message("openai/gpt-6-sol", "loop"))


def cached() -> None:
    """Four answers, of which a provider gave two."""
    litellm.cache = Cache(type="local")
    for more in ({}, ASKED):
        before = meter.counts().accepted
        for _ in range(2):
            answer = litellm.completion(**to(OPENAI, "cached", caching=True, **more))
            if more:
                list(answer)
            # The answer is in the cache when its hook is called.
            while meter.counts().accepted == before:
                time.sleep(0.01)
    litellm.cache = None


async def retried() -> None:
    """The provider fails once, and is asked again."""
    await litellm.acompletion(**to(OPENAI, "retried", num_retries=2))


async def twice() -> None:
    """Both hooks tell of the same call, again and again, as they have done in some releases of LiteLLM."""
    told = asyncio.Queue()

    class Told(CustomLogger):
        async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
            told.put_nowait((kwargs, response_obj, start_time, end_time))

    litellm.callbacks = [Told()]
    await litellm.acompletion(**to(ANTHROPIC, "twice"))
    async for _ in await litellm.acompletion(**to(OPENAI, "twice", **ASKED)):
        pass
    calls = [await told.get(), await told.get()]
    litellm.callbacks = [logger]
    for call in calls:
        await asyncio.gather(
            *(asyncio.to_thread(logger.log_success_event, *call) for _ in range(5)),
            *(logger.async_log_success_event(*call) for _ in range(5)),
        )


def unasked() -> None:
    """A stream of which the provider tells no usage."""
    list(litellm.completion(**to(OPENAI, "unasked", stream=True)))


async def embedded() -> None:
    called = via("openai/text-embedding-3-small", "embedded", metadata=run.tags("embedded"))
    await litellm.aembedding(input=PROMPT[0]["content"], **called)


def in_vain() -> None:
    """Nobody is said to be charged; then the spool cannot be written. The caller has the answers all the same."""
    assert litellm.completion(**to(OPENAI, "in_vain", metadata={})).choices
    Path(os.environ["BYOK_SPOOL_DIR"]).write_text("in the way")
    assert litellm.completion(**to(OPENAI, "in_vain")).choices


async def ended_at_once() -> None:
    """The last line of a program: LiteLLM's hooks run when its loop is gone."""
    await litellm.acompletion(**to(OPENAI, "ended_at_once"))


ANSWERS = {"retried": 1, "loop": 17, "embedded": 1}


async def until_told(calls: Awaitable[None], answers: int) -> None:
    """What LiteLLM has under way when a loop ends, it may never tell of."""
    wanted = meter.counts().accepted + answers
    async with asyncio.timeout(float(os.environ["PATIENCE_SECONDS"])):
        await calls
        while meter.counts().accepted < wanted:  # noqa: ASYNC110 - threads record, too
            await asyncio.sleep(0.01)


def main(names: list[str]) -> None:
    for name in names:
        made = globals()[name]()
        if asyncio.iscoroutine(made):
            asyncio.run(until_told(made, ANSWERS.get(name, 0)))


if __name__ == "__main__":
    # When the program ends, LiteLLM's threads have told all.
    atexit.register(lambda: sys.stdout.write(f"not recorded: {meter.observer.not_recorded}\n"))
    main(sys.argv[1:])
