"""The OpenAI Agents SDK: ``agents.add_trace_processor(ByokTracingProcessor(meter))``, and runs within ``tagged``.

What a run's traces say of usage lacks tiers, cache writes and searches, so it is read from the provider's answers:
``agents.set_default_openai_client(AsyncOpenAI(http_client=watch(DefaultAsyncHttpxClient(), meter)))`` (``hooks.http``).
Its spans say which agent asks, and which tools were called: where tracing is off, neither is known.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import Any

from agents.tracing import AgentSpanData, FunctionSpanData, Span, TracingProcessor

from byok_sdk.meter import Meter
from byok_sdk.observed import Tags, ToolCalled
from byok_sdk.observer import agents_tags, current_tags, set_tags

# The spans of the agents that run here, each with the tags from before it; the innermost is the last.
_agents: ContextVar[tuple[tuple[str, Tags], ...]] = ContextVar("byok_sdk_agents", default=())


class ByokTracingProcessor(TracingProcessor):
    """Says whose call of a model it is while an agent runs, and records calls of tools (``tools=False``: not those)."""

    def __init__(self, meter: Meter, *, tools: bool = True) -> None:
        """One is enough for a process. Tools that failed are free."""
        self._observer, self._tools = meter.observer, tools

    def on_span_start(self, span: Span[Any]) -> None:
        """An agent begins, in the task that will ask its model."""
        if isinstance(span.span_data, AgentSpanData):
            _agents.set((*_agents.get(), (span.span_id, current_tags())))
            set_tags(agents_tags(span.span_data.name))

    def on_span_end(self, span: Span[Any]) -> None:
        """An agent or a tool has ended. The loop does not wait for the disk."""
        told = span.span_data
        if isinstance(told, FunctionSpanData) and self._tools and span.started_at:
            at = datetime.fromisoformat(span.started_at.replace("Z", "+00:00"))
            called = ToolCalled(current_tags(), told.name, span.error is None, at)
            self._observer.see_later(lambda: called)
        elif (agents := _agents.get()) and agents[-1][0] == span.span_id:
            _agents.set(agents[:-1])
            set_tags(agents[-1][1])

    def _nothing(self, *_: object) -> None:
        """What else there is to hear; the meter is flushed and closed by whoever made it."""

    on_trace_start = on_trace_end = shutdown = force_flush = _nothing
