"""The newest recorded change is told at once or not at all, also by a database that is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import SQLAlchemyError

from services.ledger.recorded_changes import RecordedChanges
from tests.patience import PATIENCE_SECONDS


class Database:
    """Answers only while it is let."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.newest = 7
        self.questions = 0

    def read(self) -> int:
        self.questions += 1
        assert self.running.wait(PATIENCE_SECONDS)
        return self.newest


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.running.set()


def test_each_question_is_answered_anew(database: Database) -> None:
    database.running.set()
    recorded = RecordedChanges(database.read)
    assert recorded.newest() == 7
    database.newest = 8
    assert recorded.newest() == 8


def test_a_database_that_is_stopped_holds_one_thread_and_no_request(database: Database) -> None:
    recorded = RecordedChanges(database.read, wait_seconds=0.05)
    with ThreadPoolExecutor(8) as requests:
        assert [each.result(PATIENCE_SECONDS) for each in [requests.submit(recorded.newest) for _ in range(40)]] == (
            [None] * 40
        )
    assert database.questions == 1


def test_once_it_goes_on_it_is_asked_again(database: Database) -> None:
    recorded = RecordedChanges(database.read, wait_seconds=0.05)
    assert recorded.newest() is None
    database.running.set()
    patient = RecordedChanges(database.read, wait_seconds=PATIENCE_SECONDS)
    assert patient.newest() == 7


def test_a_database_that_is_away_says_nothing() -> None:
    def away() -> int:
        raise SQLAlchemyError("away")

    assert RecordedChanges(away).newest() is None
