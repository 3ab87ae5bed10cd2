"""LangChain: ``create_agent(watch_model(model, meter), tools, middleware=[ByokMiddleware(meter)])``.

Its messages lack OpenAI's cache writes, so usage is read from the provider's answers (``hooks.http``). Whose calls
they are say ``tagged`` or, of agents, the metadata of LangChain's ``config``.
"""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.runnables import ensure_config

from byok_sdk.hooks.http import watch
from byok_sdk.meter import Meter
from byok_sdk.observed import Tags
from byok_sdk.observer import agents_tags, tagged

_CLIENTS = ("root_client", "root_async_client", "_client", "_async_client")


def watch_model(model: Any, meter: Meter, *, provider: str | None = None) -> Any:
    """Watch the clients of a ChatOpenAI, ChatAnthropic or their like, and so of all models that share them."""
    clients = [client for name in _CLIENTS if (client := getattr(model, name, None)) is not None]
    if not clients:
        raise TypeError(
            f"how a {type(model).__name__} asks is not known; give it a client that is watched (hooks.http)"
        )
    for client in clients:
        watch(client._client, meter, provider=provider)
    return model


class ByokMiddleware(AgentMiddleware):
    """Says whose call of a model it is, and records calls of tools (``tools=False``: not those)."""

    def __init__(self, meter: Meter, *, tools: bool = True) -> None:
        self._observer, self._counts = meter.observer, tools

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        with tagged(_tags()):
            return handler(request)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        with tagged(_tags()):
            return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        with self._observer.tool(request.tool_call["name"], _tags(), counts=self._counts) as outcome:
            return outcome.of(handler(request))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        with self._observer.tool(request.tool_call["name"], _tags(), counts=self._counts) as outcome:
            return outcome.of(await handler(request))


def _tags() -> Tags:
    metadata = ensure_config()["metadata"]
    return agents_tags(metadata.get("lc_agent_name"), {n: v for n, v in metadata.items() if n.startswith("byok_")})
