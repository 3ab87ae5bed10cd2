"""One session leads at a time; the next takes over when it ends, also when it ends without a word."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from services.runtime.background import lead
from tests.integration.real_parts import Database, running_postgres
from tests.patience import PATIENCE_SECONDS

LOCK = 4_270_099


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("leading-postgres")) as postgres:
        database: Database = postgres
        database.create("leaders", "ledger_owner")
        yield database.dsn("ledger_owner", "leaders")


def session(dsn: str) -> psycopg.Connection[object]:
    return psycopg.connect(dsn, autocommit=True)


def test_the_next_leads_once_the_session_of_the_first_ends(dsn: str) -> None:
    stop, stands_by, leads = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        with session(dsn) as connection:
            if lead(connection, LOCK, stop, standing_by=stands_by.set, seconds=0.01):
                leads.set()

    with session(dsn) as first:
        assert lead(first, LOCK, stop)
        thread = threading.Thread(target=second)
        thread.start()
        assert stands_by.wait(PATIENCE_SECONDS)
        assert not leads.is_set()
    assert leads.wait(PATIENCE_SECONDS)
    thread.join()


def test_whoever_is_told_to_stop_does_not_lead(dsn: str) -> None:
    stop = threading.Event()
    with session(dsn) as first, session(dsn) as second:
        assert lead(first, LOCK, stop)
        assert not lead(second, LOCK, stop, standing_by=stop.set)
        assert not lead(first, LOCK, stop)
