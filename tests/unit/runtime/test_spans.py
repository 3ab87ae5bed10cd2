"""Spans go to a collector where one is named, say nothing that was sent, and are nothing where none is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.runtime import spans
from services.runtime.settings import HttpSettings, SettingsError
from services.runtime.spans import LINKS_MAX, SpanKind, configure_spans, flush_spans, records_spans, span
from services.runtime.trace_context import TraceContext, current_trace, new_trace
from tests.otlp_receiver import Collector, collector
from tests.patience import PATIENCE_SECONDS

KEY = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(spans, "_provider", None)
    with collector() as running:
        configure_spans(HttpSettings(otlp_traces_url=running.url), "tested")
        yield running


def test_a_part_of_a_trace_is_sent_with_its_links_and_what_it_says(recorded: Collector) -> None:
    parent, others = new_trace()._replace(sampled=True), [new_trace() for _ in range(LINKS_MAX + 1)]
    with span("outer", SpanKind.SERVER, parent=parent) as outer:
        current_trace.set(outer.context)
        with span("inner", links=others, attributes={"byok.events": 3}) as inner:
            inner.says({"messaging.batch.message_count": 2})
        outer.is_called("GET /v1/things")
    current_trace.set(None)
    flush_spans()
    ((first, within), (_, around)) = sorted(recorded.spans, key=lambda each: each[1].name == "GET /v1/things")
    assert first == "byok-tested"
    assert (around.trace_id.hex(), around.parent_span_id.hex()) == parent[:2]
    assert within.parent_span_id == around.span_id
    assert outer.context == TraceContext(parent.trace_id, around.span_id.hex(), sampled=True)
    assert [link.span_id.hex() for link in within.links] == [each.span_id for each in others[:LINKS_MAX]]
    said = {each.key: each.value.int_value for each in within.attributes}
    assert said == {"byok.events": 3, "messaging.batch.message_count": 2}


def test_of_an_error_its_class_is_told_and_not_its_words(recorded: Collector) -> None:
    with pytest.raises(ValueError, match="sk-ant"), span("failing"):
        raise ValueError(KEY)
    flush_spans()
    ((_, failed),) = recorded.spans
    assert (failed.status.code, failed.status.message, list(failed.events)) == (2, "ValueError", [])
    assert all(KEY.encode() not in body for body in recorded.bodies)


def test_what_the_caller_did_not_sample_is_not_recorded_but_gone_on_with(recorded: Collector) -> None:
    parent = new_trace()
    with span("quiet", parent=parent) as quiet:
        pass
    flush_spans()
    assert recorded.spans == []
    assert quiet.context is not None
    assert (quiet.context.trace_id, quiet.context.sampled) == (parent.trace_id, False)


def test_a_collector_that_is_away_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "_provider", None)
    configure_spans(HttpSettings(otlp_traces_url="http://127.0.0.1:9/v1/traces"), "tested")
    with span("lost"):
        pass
    flush_spans()


def test_where_no_collector_is_named_nothing_is_recorded_or_imported() -> None:
    code = """
import sys
from services.runtime.settings import HttpSettings
from services.runtime.spans import configure_spans, flush_spans, records_spans, span
configure_spans(HttpSettings(), "tested")
with span("nothing") as part:
    part.says({"one": 1}); part.is_called("other"); part.failed(ValueError())
flush_spans()
assert part.context is None and not records_spans()
assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_SECONDS)
    assert not records_spans()


def test_a_collector_without_opentelemetry_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"^BYOK_OTLP_TRACES_URL is set.*\[otel\]"):
        configure_spans(HttpSettings(otlp_traces_url="http://127.0.0.1:9/v1/traces"), "tested")
