"""pydantic-ai: ``Agent(model, capabilities=[ByokCapability(meter)])``, and runs within ``tagged``.

What its answers say of usage lacks how long OpenAI keeps what was written to its cache, so it is read from the
provider's: ``OpenAIChatModel(…, provider=OpenAIProvider(http_client=watch(AsyncClient(), meter)))`` (``hooks.http``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model, ModelRequestContext, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel

from byok_sdk.meter import Meter
from byok_sdk.observed import Tags
from byok_sdk.observer import agents_tags, tagged


class ByokCapability(AbstractCapability[Any]):
    """Says whose call of a model it is, and records calls of tools (``tools=False``: not those)."""

    def __init__(self, meter: Meter, *, tools: bool = True) -> None:
        """One is enough for all agents. Tools that failed are free."""
        self._observer, self._counts = meter.observer, tools

    async def before_model_request(self, ctx: RunContext[Any], request_context: ModelRequestContext) -> Any:
        """The model is asked for this agent, in whichever task that is."""
        return replace(request_context, model=_Tagged(request_context.model, _tags(ctx)))

    async def wrap_tool_execute(self, ctx: RunContext[Any], *, call: Any, args: Any, handler: Any, **_: Any) -> Any:
        with self._observer.tool(call.tool_name, _tags(ctx), counts=self._counts):
            return await handler(args)


class _Tagged(WrapperModel):
    def __init__(self, wrapped: Model, tags: Tags) -> None:
        super().__init__(wrapped)
        self._tags = tags

    async def request(self, *asked: Any, **more: Any) -> Any:
        with tagged(self._tags):
            return await super().request(*asked, **more)

    @asynccontextmanager
    async def request_stream(self, *asked: Any, **more: Any) -> AsyncGenerator[StreamedResponse]:
        async with AsyncExitStack() as stack:
            with tagged(self._tags):
                stream = await stack.enter_async_context(super().request_stream(*asked, **more))
            yield stream


def _tags(ctx: RunContext[Any]) -> Tags:
    return agents_tags(ctx.agent and ctx.agent.name)
