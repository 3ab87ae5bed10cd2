"""What is told of the last failure, and for how long."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy.exc

from services.runtime.database import cannot_write, is_outage
from services.runtime.last_failure import LastFailure


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def test_a_failure_is_told_until_the_next_success():
    failure = LastFailure("booking")
    assert failure.unready() is None
    failure.happened(psycopg.errors.DiskFull("could not extend file with what a customer sent"))
    assert failure.unready() == "booking failed the last time (DiskFull, SQLSTATE 53100)"
    failure.happened(OSError("away"))
    assert failure.unready() == "booking failed the last time (OSError)"
    failure.over()
    assert failure.unready() is None


def test_the_cause_behind_sqlalchemy_is_named():
    failure = LastFailure("writing")
    failure.happened(sqlalchemy.exc.OperationalError("INSERT", {}, psycopg.errors.DiskFull()))
    assert failure.unready() == "writing failed the last time (DiskFull, SQLSTATE 53100)"


def test_what_nobody_tries_by_itself_is_forgotten():
    clock = Clock()
    failure = LastFailure("publishing", forgotten_after=15, clock=clock)
    failure.happened(OSError())
    clock.now += 15
    assert failure.unready() is not None
    clock.now += 0.1
    assert failure.unready() is None
    failure.happened(OSError())
    assert failure.unready() is not None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.IoError(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        # Others hold a lock, or the server is busy: the next try may succeed, and reads and writes fare alike.
        (psycopg.errors.LockNotAvailable(), False),
        (psycopg.errors.TooManyConnections(), False),
        (psycopg.OperationalError("away"), False),
        (psycopg.errors.UniqueViolation(), False),
        (ValueError(), False),
        (None, False),
    ],
)
def test_a_database_that_takes_no_writes_is_told_from_one_that_is_away(error, expected):
    assert cannot_write(error) is expected
    if expected:
        assert is_outage(error), "and it is waited for"
