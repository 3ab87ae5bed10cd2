"""OpenTelemetry: the usage that spans of model calls carry (``gen_ai.*``), for code that is instrumented already.

A span that is not sampled tells nothing, so every one has to be; ``record_spans`` warns where it is otherwise.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from byok_sdk.errors import UsageMissingError
from byok_sdk.meter import Meter
from byok_sdk.observed import Observed, Tags, ledger_name
from byok_sdk.observer import current_tags
from byok_sdk.usage.apis import OPENTELEMETRY
from byok_sdk.usage.extraction import read_usage, with_more

_NOW = {
    # Names of before, and those of instrumentations that were ahead of the conventions.
    "gen_ai.system": "gen_ai.provider.name",
    "gen_ai.usage.prompt_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.completion_tokens": "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.openai.response.service_tier": "openai.response.service_tier",
}
_WRITTEN = "gen_ai.usage.cache_creation.input_tokens"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NOT_A_CALL = ("invoke_agent", "create_agent", "invoke_workflow", "execute_tool")


OPEN_MAX = 50_000
"""Spans that have begun and not ended. Of more the oldest are forgotten, with whose they were: some never end."""

CacheLife = Literal["5m", "1h", "12h"]
"""For how long a provider keeps what a call wrote to its cache: 5 or 60 minutes, or 12 hours."""


def record_spans(provider: TracerProvider, meter: Meter, *, cache_life: CacheLife | None = None) -> ByokSpanProcessor:
    """Record what the spans of ``provider`` tell from now on. Warns where its sampler may leave some out.

    What is written to a cache is priced by how long it is kept, and no span tells that: without ``cache_life``, which
    must be true of all calls, one that wrote to a cache is not recorded, and counted as such.
    """
    sampler = provider.sampler.get_description()
    if not sampler.startswith(("AlwaysOnSampler", "ParentBased{root:AlwaysOnSampler")):
        warnings.warn(
            f"usage is recorded from spans, and {sampler} leaves out some: their calls are charged to nobody."
            " Sample every span (ALWAYS_ON), and choose at the exporter or the collector",
            RuntimeWarning,
            stacklevel=2,
        )
    processor = ByokSpanProcessor(meter, cache_life=cache_life)
    provider.add_span_processor(processor)
    return processor


@dataclass
class _Open:
    """A span that has not ended."""

    parent: int | None
    tags: Tags
    told_within: bool = False


class ByokSpanProcessor(SpanProcessor):
    """Records the usage of a span when it ends, unless a span within it has told it already.

    Whose call it was say attributes of the span (``run.tags(…)``), or ``byok_sdk.tagged`` around the call.
    """

    def __init__(self, meter: Meter, *, cache_life: CacheLife | None = None) -> None:
        """Give it to a TracerProvider, or use ``record_spans``, which says what ``cache_life`` is."""
        self._cache_life = cache_life
        self._observer = meter.observer
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Keep whose it is: where it ends, that may be another's."""
        if span.context is not None:
            with self._lock:
                self._open[span.context.span_id] = _Open(span.parent.span_id if span.parent else None, current_tags())
                if len(self._open) > OPEN_MAX:
                    self._open.popitem(last=False)

    def on_end(self, span: ReadableSpan) -> None:
        """Record it. On disk before it returns, in the thread that ends the span."""
        if span.context is None:
            return
        attributes = {_NOW.get(name, name): value for name, value in (span.attributes or {}).items()}
        with self._lock:
            opened = self._open.pop(span.context.span_id, None) or _Open(None, {})
            if not _tells_usage(attributes) or opened.told_within:
                return
            self._mark(opened.parent)
        call_id = f"{span.context.trace_id:032x}{span.context.span_id:016x}"
        began = _EPOCH + timedelta(microseconds=(span.start_time or 0) // 1000)
        self._observer.see(
            lambda: _describe(attributes, opened.tags, began, call_id, self._cache_life), once=("span", call_id)
        )

    def _mark(self, span_id: int | None) -> None:
        """What encloses it repeats its usage, if it tells any."""
        while span_id is not None and (enclosing := self._open.get(span_id)) is not None:
            enclosing.told_within = True
            span_id = enclosing.parent


def _tells_usage(attributes: Mapping[str, Any]) -> bool:
    if attributes.get("gen_ai.operation.name") in _NOT_A_CALL:
        return False
    return "gen_ai.usage.input_tokens" in attributes or "gen_ai.usage.output_tokens" in attributes


def _describe(
    attributes: Mapping[str, Any], tags: Tags, began: datetime, call_id: str, cache_life: CacheLife | None
) -> Observed:
    provider = attributes.get("gen_ai.provider.name")
    if provider is None:
        raise UsageMissingError("a span tells usage, and no gen_ai.provider.name")
    model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model")
    known = {"gen_ai.usage.output_tokens": 0} if attributes.get("gen_ai.operation.name") == "embeddings" else {}
    usage = read_usage({**known, **attributes, "gen_ai.response.model": model}, OPENTELEMETRY)
    written = attributes.get(_WRITTEN)
    if written:
        if cache_life is None:
            raise UsageMissingError(f"{_WRITTEN} is {written}, and cache_life does not say how long that is kept")
        usage = with_more(usage, {f"cache_write_{cache_life}": int(written)}, {})
    own = {name: value for name, value in attributes.items() if name.startswith("byok_")}
    return Observed({**tags, **own}, ledger_name(str(provider).lower()), usage, began, "opentelemetry", call_id)
