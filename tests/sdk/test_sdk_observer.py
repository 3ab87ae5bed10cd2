"""Calls that are told of afterwards: each is one event, and what goes wrong stays with us."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from byok_sdk import Meter, Settings, SpoolFullError, tagged
from byok_sdk.events import Whose, utc_now
from byok_sdk.observed import Observed, tags_of
from byok_sdk.observer import Observer, current_tags
from byok_sdk.usage.extraction import usage_of
from byok_sdk.usage.measured import Usage

from tests.sdk.recorded_answers import OPENAI_CHAT

TAGS = tags_of(Whose("acme", "u1", "t1", "r42"), "plan", None, None)
ASKED: dict[str, Observed] = {}
USAGE = usage_of(OPENAI_CHAT, "openai")


def a_call(usage: Usage = USAGE, tags: Any = TAGS) -> Observed:
    return Observed(tags, "openai", usage, utc_now(), "test", "call-1")


def test_a_call_that_is_told_of_from_many_threads_is_recorded_once() -> None:
    kept: list[bytes] = []
    observer = Observer(kept.append, "byok-sdk")
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: observer.see(a_call, once="call-1"), range(50))) == 1
    assert len(kept) == 1
    # Another teller knows it by another name; the provider's id is the same.
    assert not observer.see(a_call, once="of another")
    assert observer.see(lambda: a_call(replace(USAGE, response_id="another")), once="another")
    assert observer.not_recorded == 0


def test_what_could_not_be_kept_may_be_told_of_again() -> None:
    kept: list[bytes] = []
    full = [True]

    def record(body: bytes) -> None:
        if full.pop():
            raise SpoolFullError("full")
        kept.append(body)

    observer = Observer(record, "byok-sdk")
    assert not observer.see(a_call, once="call-1")
    full.append(False)
    assert observer.see(a_call, once="call-1")
    assert (len(kept), observer.not_recorded) == (1, 1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: a_call(tags={"byok_user": "u1"}), "byok_org is missing"),
        (lambda: a_call(replace(USAGE, response_id=None))._replace(call_id=None), "it has no id"),
        (lambda: ASKED["a prompt"], "KeyError"),
    ],
)
def test_a_failure_is_logged_and_counted_without_words_of_others(
    call: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    observer = Observer(lambda _: None, "byok-sdk")
    with caplog.at_level(logging.ERROR):
        assert not observer.see(call)
    assert said in caplog.text
    assert "a prompt" not in caplog.text
    assert observer.not_recorded == 1


def test_a_call_that_none_describes_is_nothing() -> None:
    observer = Observer(lambda _: None, "byok-sdk")
    assert not observer.see(lambda: None)
    assert observer.not_recorded == 0


def test_tags_hold_within_and_no_further() -> None:
    with tagged(TAGS):
        assert current_tags() == {
            "byok_org": "acme",
            "byok_user": "u1",
            "byok_team": "t1",
            "byok_run": "r42",
            "byok_agent": "plan",
        }
    assert not current_tags()


def test_what_is_recorded_while_the_process_ends_lies_on_disk(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    settings = Settings(nowhere, nowhere, tmp_path / "spool", "made-up", exit_seconds=0.0)
    meter = Meter(settings)
    assert meter.observer.see(a_call, once="before")
    meter._emitter.end()
    assert meter.observer.see(lambda: a_call(replace(USAGE, response_id="late")), once="after")
    assert meter.counts().waiting == 2
    assert "byok_sdk_calls_not_recorded_total 0" in meter.metrics()
    meter.close(0)
