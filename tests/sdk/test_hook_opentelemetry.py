"""Spans of model calls, as instrumentations make them: each call is recorded once, where it was made."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from byok_sdk import Meter, Settings, tagged
from byok_sdk.hooks import opentelemetry as opentelemetry_hook
from byok_sdk.hooks.opentelemetry import record_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Tracer

NOWHERE = "http://127.0.0.1:9"
USED: dict[str, Any] = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 7}
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.6",
    "gen_ai.response.model": "gpt-5.6-2026-03-01",
    **USED,
}


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    meter = Meter(Settings(NOWHERE, NOWHERE, tmp_path / "spool", "made-up"))
    yield meter
    meter.close(0)


@pytest.fixture
def tracer(meter: Meter) -> Iterator[Tracer]:
    provider = TracerProvider(sampler=ALWAYS_ON)
    record_spans(provider, meter)
    run = meter.run(org="acme", user="u1", run_id="r42")
    with tagged(run.tags("plan")):
        yield provider.get_tracer("a runner's")


def recorded(meter: Meter) -> list[dict[str, Any]]:
    """The payloads that lie in the spool."""
    return [json.loads(each.body)["data"] for each in meter._emitter._opened().spool.due(1_000, 10**6)]


def test_a_call_is_recorded_with_all_that_its_span_tells(meter: Meter, tracer: Tracer) -> None:
    more: dict[str, Any] = {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "openai.response.service_tier": "flex",
    }
    with tracer.start_as_current_span("chat gpt-5.6", attributes=CALL | more):
        pass
    (data,) = recorded(meter)
    assert data["usage"] == {"input": 100, "cache_read": 60, "output": 7, "reasoning": 5}
    assert (data["provider"], data["model"], data["conditions"]) == (
        "openai",
        "gpt-5.6-2026-03-01",
        {"service_tier": "flex"},
    )
    assert (data["org_id"], data["user_id"], data["run_id"], data["agent_id"]) == ("acme", "u1", "r42", "plan")


def test_what_a_call_wrote_to_a_cache_is_recorded_where_it_is_said_how_long_it_is_kept(meter: Meter) -> None:
    wrote = CALL | {"gen_ai.provider.name": "anthropic", "gen_ai.usage.cache_creation.input_tokens": 30}
    run = meter.run(org="acme", user="u1", run_id="r42")
    for cache_life in (None, "1h"):
        provider = TracerProvider(sampler=ALWAYS_ON)
        record_spans(provider, meter, cache_life=cache_life)
        with tagged(run.tags("plan")), provider.get_tracer("x").start_as_current_span("chat", attributes=wrote):
            pass
    (data,) = recorded(meter)
    assert data["usage"] == {"input": 100, "cache_write_1h": 30, "output": 7}
    assert "byok_sdk_calls_not_recorded_total 1" in meter.metrics()


def test_names_of_before_are_read_alike(meter: Meter, tracer: Tracer) -> None:
    old: dict[str, Any] = {
        "gen_ai.system": "gemini",
        "gen_ai.request.model": "gemini-3.5-flash",
        "gen_ai.usage.prompt_tokens": 12,
        "gen_ai.usage.completion_tokens": 3,
        "gen_ai.usage.cache_read_input_tokens": 4,
        "llm.usage.total_tokens": 15,
        "byok_agent": "said by the span",
    }
    with tracer.start_as_current_span("gemini.generate", attributes=old):
        pass
    (data,) = recorded(meter)
    assert (data["provider"], data["model"]) == ("google", "gemini-3.5-flash")
    assert data["usage"] == {"input": 12, "cache_read": 4, "output": 3}
    assert data["agent_id"] == "said by the span"


def test_spans_that_enclose_calls_repeat_and_are_not_counted(meter: Meter, tracer: Tracer) -> None:
    agent: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "openai", **USED}
    unnamed: dict[str, Any] = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.6", **USED}
    with (
        tracer.start_as_current_span("invoke_agent", attributes=agent),
        tracer.start_as_current_span("a framework's own", attributes=unnamed),
        tracer.start_as_current_span("a step"),
    ):
        for number in (1, 2):
            with tracer.start_as_current_span("chat", attributes=CALL | {"gen_ai.response.id": f"r{number}"}):
                pass
    assert [data["provider_request_id"] for data in recorded(meter)] == ["r1", "r2"]
    assert meter.observer.not_recorded == 0


def test_spans_that_never_end_are_forgotten(meter: Meter, tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry_hook, "OPEN_MAX", 3)
    spans = [tracer.start_span("chat", attributes=CALL | {"gen_ai.response.id": f"r{number}"}) for number in range(5)]
    for span in spans:
        span.end()
    # Whose the first two were is not known any more: they are counted, and charged to nobody.
    assert [data["provider_request_id"] for data in recorded(meter)] == ["r2", "r3", "r4"]
    assert meter.observer.not_recorded == 2


def test_a_span_that_tells_too_little_is_counted_as_not_recorded(meter: Meter, tracer: Tracer) -> None:
    with tracer.start_as_current_span("chat", attributes={"gen_ai.usage.input_tokens": 5, "gen_ai.system": "openai"}):
        pass
    with tracer.start_as_current_span("chat", attributes=CALL | {"gen_ai.usage.cache_read.input_tokens": 101}):
        pass
    with tracer.start_as_current_span("HTTP POST", attributes={"http.response.status_code": 200}):
        pass
    assert not recorded(meter)
    assert meter.observer.not_recorded == 2


@pytest.mark.parametrize(
    ("sampler", "whole"),
    [
        (ALWAYS_ON, True),
        (ParentBased(ALWAYS_ON), True),
        (TraceIdRatioBased(0.1), False),
        (ParentBased(TraceIdRatioBased(0.5)), False),
        (ALWAYS_OFF, False),
    ],
)
def test_a_sampler_that_leaves_spans_out_is_warned_of(meter: Meter, sampler: Sampler, whole: bool) -> None:
    provider = TracerProvider(sampler=sampler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record_spans(provider, meter)
    assert [each.category for each in caught] == ([] if whole else [RuntimeWarning])
