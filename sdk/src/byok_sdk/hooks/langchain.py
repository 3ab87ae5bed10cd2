"""LangChain: ``create_agent(watch_model(model, meter), tools, middleware=[ByokMiddleware(meter)])``.

What its messages say of usage lacks OpenAI's cache writes and tells tiers in other words, so it is read from the
provider's answers (``hooks.http``). Whose calls they are say ``tagged`` or the run's metadata
(``agent.invoke(…, config={"metadata": run.tags("plan")})``); of chains and models without an agent, ``tagged`` alone.
"""

from __future__ import annotations

from typing import Any, TypeVar

from langchain.agents.middleware import AgentMiddleware
from langchain_core.runnables import ensure_config

from byok_sdk.hooks.http import watch
from byok_sdk.meter import Meter
from byok_sdk.observed import Tags
from byok_sdk.observer import agents_tags, tagged

ModelT = TypeVar("ModelT")


def watch_model(model: ModelT, meter: Meter, *, provider: str | None = None) -> ModelT:
    """Watch the clients of a ChatOpenAI, a ChatAnthropic or what is made of them; it is the same model. LangChain lets
    models of one address share a client, so these are watched together. ``provider`` as for ``watch``.
    """
    for name in ("root_client", "root_async_client", "_client", "_async_client"):
        if (client := getattr(model, name, None)) is not None:
            watch(client._client, meter, provider=provider)
    return model


class ByokMiddleware(AgentMiddleware):
    """Says whose call of a model it is, and records calls of tools (``tools=False``: not those)."""

    def __init__(self, meter: Meter, *, tools: bool = True) -> None:
        """One is enough for all agents. Tools that failed are free."""
        self._observer, self._counts = meter.observer, tools

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        with tagged(_tags()):
            return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        with tagged(_tags()):
            return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        with self._observer.tool(request.tool_call["name"], _tags(), counts=self._counts) as outcome:
            answer = handler(request)
            outcome.succeeded = getattr(answer, "status", None) != "error"
        return answer

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        with self._observer.tool(request.tool_call["name"], _tags(), counts=self._counts) as outcome:
            answer = await handler(request)
            outcome.succeeded = getattr(answer, "status", None) != "error"
        return answer


def _tags() -> Tags:
    metadata = ensure_config()["metadata"]
    own = {name: value for name, value in metadata.items() if name.startswith("byok_")}
    return agents_tags(metadata.get("lc_agent_name"), own)
