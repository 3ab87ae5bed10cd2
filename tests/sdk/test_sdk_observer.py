"""Calls that are told of afterwards: each is one event, and what goes wrong stays with us."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from byok_sdk import Meter, Settings, SpoolFullError, tagged
from byok_sdk.events import Whose, utc_now
from byok_sdk.observed import Observed, tags_of
from byok_sdk.observer import Observer, agents_tags, current_tags
from byok_sdk.usage.extraction import usage_of
from byok_sdk.usage.measured import Usage

from tests.patience import PATIENCE_SECONDS
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


def test_what_is_put_aside_is_done_in_order_and_before_a_flush_ends() -> None:
    kept: list[bytes] = []
    observer = Observer(kept.append, "byok-sdk")
    for number in range(5):
        observer.see_later(partial(a_call, replace(USAGE, response_id=f"r{number}")))
    observer.see_later(lambda: ASKED["what fails stops nothing"])
    observer.see_later(lambda: a_call(replace(USAGE, response_id="r5")))
    assert observer.aside.settle(PATIENCE_SECONDS)
    assert [json.loads(body)["data"]["provider_request_id"] for body in kept] == [f"r{number}" for number in range(6)]
    observer.aside.end(20)


def test_what_is_thrown_away_in_the_middle_of_recording_is_recorded_after_it() -> None:
    kept: list[bytes] = []

    class Stream:
        """Left without a word, as those of clients are."""

        def __del__(self) -> None:
            observer.aside.put(lambda: observer.see(lambda: a_call(replace(USAGE, response_id="left"))))

    def record(body: bytes) -> None:
        # As the collector may at any time, with whatever lock held.
        with lock:
            left.clear()
            kept.append(body)

    lock = threading.Lock()
    left = [Stream()]
    observer = Observer(record, "byok-sdk")
    assert observer.see(a_call)
    assert observer.aside.settle(PATIENCE_SECONDS)
    assert len(kept) == 2


def test_a_loop_does_not_wait_for_the_disk() -> None:
    disk = threading.Event()

    def record(_: bytes) -> None:
        assert disk.wait(PATIENCE_SECONDS)

    observer = Observer(record, "byok-sdk")

    async def see() -> bool:
        seeing = asyncio.create_task(observer.see_async(a_call))
        given_up = asyncio.create_task(observer.see_async(lambda: a_call(replace(USAGE, response_id="given up"))))
        await asyncio.sleep(0)
        given_up.cancel()
        disk.set()
        await asyncio.gather(given_up, return_exceptions=True)
        return await seeing

    assert asyncio.run(see())
    # Whoever gives up waiting has been answered all the same.
    assert observer.aside.settle(PATIENCE_SECONDS)
    assert not observer.see(lambda: a_call(replace(USAGE, response_id="given up")))
    assert observer.not_recorded == 0


def test_calls_of_tools_are_each_an_event_and_fail_where_they_raise() -> None:
    kept: list[bytes] = []
    observer = Observer(kept.append, "byok-sdk")
    for counts in (True, True, False):
        with observer.tool("search", TAGS, counts=counts):
            pass
    with observer.tool("search", TAGS) as outcome:
        answer = SimpleNamespace(status="error")
        assert outcome.of(answer) is answer
    with pytest.raises(KeyError), observer.tool("browse", TAGS):
        raise KeyError
    with observer.tool("of nobody", {}):
        pass
    assert observer.aside.settle(PATIENCE_SECONDS)
    events = [json.loads(body) for body in kept]
    assert [(each["data"]["tool"], each["data"]["succeeded"]) for each in events] == [
        ("search", True),
        ("search", True),
        ("search", False),
        ("browse", False),
    ]
    assert {each["type"] for each in events} == {"usage.tool_call.v1"}
    assert len({each["id"] for each in events}) == 4
    assert observer.not_recorded == 1


@pytest.mark.parametrize("name", ["", None, "two\nlines", "x" * 129, 7])
def test_what_no_event_may_have_is_no_name_of_an_agent(name: Any) -> None:
    with tagged(TAGS):
        assert agents_tags(name) == TAGS
        assert agents_tags("writer", {"byok_run": "r43"}) == {**TAGS, "byok_agent": "writer", "byok_run": "r43"}
    assert agents_tags("writer") == {"byok_agent": "writer"}


def test_where_no_thread_can_begin_any_more_it_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", ends)
    kept: list[bytes] = []
    observer = Observer(kept.append, "byok-sdk")
    observer.see_later(a_call)
    assert observer.aside.settle(1)
    assert asyncio.run(observer.see_async(lambda: a_call(replace(USAGE, response_id="r2"))))
    assert len(kept) == 2
