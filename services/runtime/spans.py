"""OpenTelemetry, where an operator wants it: spans of what the services do, off unless a collector is named (ADR 0027).

A span says how many and how long, never what: no attribute comes from a caller or a customer, and of an error only its
class is told. So no key can be in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from services.runtime.release import release
from services.runtime.settings import HttpSettings, SettingsError
from services.runtime.trace_context import TraceContext, current_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Attributes = Mapping[str, str | int]

LINKS_MAX = 128
"""How many traces a span refers to at most; OpenTelemetry's own limit."""
_EXPORT_SECONDS = 5
_FLUSH_SECONDS = 2

_provider: TracerProvider | None = None


class SpanKind(Enum):
    """What part somebody plays in a conversation; called as OpenTelemetry calls it."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """What is under way, as far as it is recorded."""

    def __init__(self, recorded: Any = None) -> None:
        """``recorded`` is OpenTelemetry's span; None where nothing is recorded."""
        self._recorded = recorded

    @property
    def context(self) -> TraceContext | None:
        """Where others find it; None where nothing is recorded."""
        if self._recorded is None:
            return None
        told = self._recorded.get_span_context()
        return TraceContext(f"{told.trace_id:032x}", f"{told.span_id:016x}", told.trace_flags.sampled)

    def says(self, attributes: Attributes) -> None:
        """Add to what is said of it: nothing that a caller or customer has sent."""
        if self._recorded is not None:
            self._recorded.set_attributes(dict(attributes))

    def is_called(self, name: str) -> None:
        """Name it by what only came out later."""
        if self._recorded is not None:
            self._recorded.update_name(name)

    def failed(self, error: BaseException) -> None:
        """Mark it as failed; the words of the error might hold what was sent."""
        if self._recorded is not None:
            from opentelemetry.trace import StatusCode

            self._recorded.set_status(StatusCode.ERROR, type(error).__name__)


_NOT_RECORDED = Span()


def configure_spans(settings: HttpSettings, service: str) -> None:
    """Record spans from now on and send them to ``BYOK_OTLP_TRACES_URL``; without it, do nothing.

    Raises SettingsError where it is set, and OpenTelemetry is not installed.
    """
    global _provider  # one process has one, like its logs
    if settings.otlp_traces_url is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError:
        raise SettingsError(
            "BYOK_OTLP_TRACES_URL is set, but OpenTelemetry is not installed: pip install 'byok-credit-metering[otel]'"
        ) from None
    named = Resource.create({"service.name": f"byok-{service}", "service.version": release()})
    provider = TracerProvider(resource=named, sampler=ParentBasedTraceIdRatio(settings.otlp_traces_share))
    exporter = OTLPSpanExporter(endpoint=settings.otlp_traces_url, timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _provider = provider


def records_spans() -> bool:
    """Whether spans are recorded: what is needed for them alone need not be made where not."""
    return _provider is not None


def flush_spans() -> None:
    """Send what is not sent yet, if that takes no more than two seconds."""
    if _provider is not None:
        _provider.force_flush(_FLUSH_SECONDS * 1000)


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parent: TraceContext | None = None,
    links: Sequence[TraceContext] = (),
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """Record what happens in the block; without a ``parent``, as a part of what the request is a part of.

    Costs a microsecond where nothing is recorded.
    """
    if _provider is None:
        yield _NOT_RECORDED
        return
    recorded = _begin(name, kind, parent or current_trace.get(), links, attributes)
    its = Span(recorded)
    try:
        yield its
    except BaseException as error:
        its.failed(error)
        raise
    finally:
        recorded.end()


def _begin(
    name: str,
    kind: SpanKind,
    parent: TraceContext | None,
    links: Sequence[TraceContext],
    attributes: Attributes | None,
) -> Any:
    from opentelemetry import trace

    def told(context: TraceContext) -> trace.SpanContext:
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if context.sampled else trace.TraceFlags.DEFAULT)
        ids = int(context.trace_id, 16), int(context.span_id, 16)
        return trace.SpanContext(*ids, is_remote=True, trace_flags=flags)

    provider = _provider
    if provider is None:
        raise RuntimeError("configure_spans comes first")
    within = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(told(parent)))
    return provider.get_tracer("byok").start_span(
        name,
        context=within,
        kind=trace.SpanKind[kind.value],
        links=[trace.Link(told(each)) for each in links[:LINKS_MAX]],
        attributes=dict(attributes or {}),
    )
