"""A fork waits until no thread is in SQLite or OpenSSL, whose locks a child would inherit held for good."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from byok_sdk import Meter, RegistryAwayError, Settings, forking
from byok_sdk.spool import read_counts, read_set_aside

from tests.patience import PATIENCE_SECONDS
from tests.sdk.foreign_ledger import foreign_ledger

NOWHERE = "http://127.0.0.1:9"


def forked() -> None:
    child = os.fork()
    if child == 0:
        # As the child's own first work would do: it must find the gate open.
        with forking.no_fork():
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def someone_inside() -> Iterator[threading.Event]:
    """A thread is inside until the event is set."""
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with forking.no_fork():
            inside.set()
            leave.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(PATIENCE_SECONDS)
    yield leave
    leave.set()
    thread.join()


def test_a_fork_waits_for_whoever_is_inside(someone_inside: threading.Event) -> None:
    timer = threading.Timer(0.2, someone_inside.set)
    timer.start()
    forked()
    assert someone_inside.is_set()
    timer.join()


def test_a_fork_does_not_wait_for_long(someone_inside: threading.Event) -> None:
    forked()
    assert not someone_inside.is_set()


def test_of_a_request_a_fork_waits_for_all_but_the_wait_for_an_answer() -> None:
    forking.trace("connection.start_tls.started", {})
    assert forking._gate._inside == 1
    forking.trace("connection.start_tls.failed", {})
    forking.trace("http11.receive_response_headers.started", {})
    assert forking._gate._inside == 0


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done in SQLite and OpenSSL, and by what."""
    done: list[str] = []

    def told(what: str) -> None:
        assert forking._gate._inside, f"{what} while a process may fork"
        done.append(what)

    class Connection(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            told("execute")
            return super().execute(*args)

        def close(self) -> None:
            told("close")
            super().close()

    class Client(httpx.Client):
        def __init__(self, **settings: Any) -> None:
            told("client")
            super().__init__(**settings)

        def request(self, *args: Any, **given: Any) -> httpx.Response:
            traced = given["extensions"]["trace"]

            def trace(name: str, info: dict[str, Any]) -> None:
                traced(name, info)
                if name.endswith("connect_tcp.started"):
                    told("connect")

            return super().request(*args, **given | {"extensions": {"trace": trace}})

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **given: connect(*args, **given, factory=Connection))
    monkeypatch.setattr(httpx, "Client", Client)
    return done


def test_a_meter_is_in_sqlite_and_openssl_only_where_a_fork_waits_for_it(watched: list[str], tmp_path: Path) -> None:
    with foreign_ledger() as ledger:
        settings = Settings(
            registry_url=NOWHERE, ledger_url=ledger.url, token="made-up", spool_dir=tmp_path, linger_seconds=0.0
        )
        with Meter(settings) as meter:
            run = meter.run(org="acme", user="u1", run_id="r1")
            with pytest.raises(RegistryAwayError):
                run.key("anthropic")
            run.tool("search")
            assert meter.flush(PATIENCE_SECONDS)
            assert meter.counts()[:4] == (1, 1, 0, 0)
            assert meter.shown().sending_trouble is None
    path = tmp_path / "1.sqlite"
    assert read_counts(path).balanced
    assert read_set_aside(path, 1) == []
    assert {"client", "connect", "execute", "close"} <= set(watched)
    assert watched.count("client") == 2
