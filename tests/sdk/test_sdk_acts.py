"""What a runner's code may do to an act: leave a stream early, fail in it, forget to record, try again."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from byok_sdk import (
    ActNotRecordedError,
    Meter,
    NotRecordedError,
    Run,
    Settings,
    StepTakenError,
    UsageError,
    UsageMissingError,
)

from tests.sdk.recorded_answers import ANTHROPIC_STREAM, DEEPSEEK, OPENAI_STREAM, XAI_REASONING_WITHIN

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    meter = Meter(Settings(registry_url=NOWHERE, ledger_url=NOWHERE, token="made-up", spool_dir=tmp_path / "spool"))
    yield meter
    meter.close(0)


@pytest.fixture
def run(meter: Meter) -> Run:
    return meter.run(org="acme", user="u1", run_id="r1")


def recorded(meter: Meter) -> list[dict[str, Any]]:
    """The events that lie in the spool."""
    return [json.loads(each.body) for each in meter._emitter._opened().spool.due(1_000, 10**6)]


def usages(meter: Meter) -> list[tuple[int, str]]:
    data = [event["data"] for event in recorded(meter)]
    return [(each["usage"]["output"], each.get("usage_status", "final")) for each in data]


def test_a_stream_is_recorded_at_its_end_and_once(meter: Meter, run: Run) -> None:
    with run.act("plan") as act:
        stream = act.stream(ANTHROPIC_STREAM, provider="anthropic")
        assert list(stream) == ANTHROPIC_STREAM
        stream.close()
    assert usages(meter) == [(15, "final")]
    assert stream.used is not None
    assert stream.used.units["output"] == 15


def test_a_stream_that_is_left_early_is_partial_and_its_connection_is_let_go(meter: Meter, run: Run) -> None:
    class Stream:
        closed = False

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(ANTHROPIC_STREAM)

        def close(self) -> None:
            self.closed = True

    source = Stream()
    with run.act("plan") as act:
        for event in act.stream(source, provider="anthropic"):
            if event["type"] == "message_delta":
                break
    assert usages(meter) == [(8, "partial")]
    assert source.closed


def test_a_stream_that_fails_is_partial_and_the_runner_hears_why(meter: Meter, run: Run) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from ANTHROPIC_STREAM[:4]
        raise ConnectionResetError("cut")

    with pytest.raises(ConnectionResetError), run.act("plan") as act:
        list(act.stream(failing(), provider="anthropic"))
    assert usages(meter) == [(1, "partial")]


def test_a_stream_that_told_nothing_is_never_0(meter: Meter, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageMissingError, match="include_usage"), run.act("plan") as act:
        next(act.stream(OPENAI_STREAM, provider="openai"))
    with run.act("plan") as act:
        for _ in act.stream(OPENAI_STREAM, provider="openai", estimate=lambda: {"input": 20, "output": 2}):
            break
    assert usages(meter) == [(2, "partial")]

    def failing() -> Iterator[dict[str, Any]]:
        yield from OPENAI_STREAM[:1]
        raise ConnectionResetError("cut")

    with caplog.at_level(logging.ERROR), pytest.raises(ConnectionResetError), run.act("plan") as act:
        list(act.stream(failing(), provider="openai"))
    assert "said nothing of its usage" in caplog.text
    assert len(recorded(meter)) == 1


def test_an_act_without_usage_is_an_error_unless_it_says_so(meter: Meter, run: Run) -> None:
    with pytest.raises(ActNotRecordedError), run.act("plan"):
        pass
    with pytest.raises(ZeroDivisionError), run.act("plan"):
        raise ZeroDivisionError
    with run.act("plan") as act:
        act.nothing()
    assert not recorded(meter)


def test_retries_that_were_billed_are_events_of_their_own(meter: Meter, run: Run) -> None:
    with run.act("plan") as act:
        act.record(DEEPSEEK, provider="deepseek")
        act.record(DEEPSEEK, provider="deepseek")
    first, second = recorded(meter)
    assert first["id"] != second["id"]
    assert first["time"] == second["time"]


def test_what_could_not_be_read_or_kept_is_recorded_under_the_same_id_later(meter: Meter, run: Run) -> None:
    unreadable = {**XAI_REASONING_WITHIN, "usage": {**XAI_REASONING_WITHIN["usage"], "total_tokens": 7}}
    with run.act("plan") as act:
        with pytest.raises(UsageError, match="do not add up"):
            act.record(unreadable, provider="xai")
        meter._emitter._opened()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The kernel lets no file of this process grow: as on a disk without room.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            with pytest.raises(NotRecordedError):
                act.record(XAI_REASONING_WITHIN, provider="xai")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert meter.counts()[:4] == (0, 0, 0, 0)
        act.record(XAI_REASONING_WITHIN, provider="xai")
    again = meter.run(org="acme", user="u1", run_id="r1")
    with again.act("plan") as act:
        act.record(XAI_REASONING_WITHIN, provider="xai")
    assert len({event["id"] for event in recorded(meter)}) == 1


def test_a_step_with_a_key_is_there_once(run: Run) -> None:
    run.act("summarize", key="doc-1")
    with pytest.raises(StepTakenError):
        run.act("summarize", key="doc-1")
    run.tool("summarize", key="doc-1")


def test_whose_answer_it_was_is_said(run: Run) -> None:
    with pytest.raises(TypeError, match="provider="):
        run.act("plan").record(DEEPSEEK)
