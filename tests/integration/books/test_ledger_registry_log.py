"""The registry log as several workers append to it, and as readers go on with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from psycopg import Connection

from services.books import registry_log
from services.books.registry_log import FoldedLog, RegistryForkedError
from services.domain.scope import Plan
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import NOW, payloads, plan
from tests.patience import PATIENCE_SECONDS

_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def change(seq: int, name: str = "pro", *, org_id: str | None = None) -> tuple[int, str, bytes]:
    """The plan of an organization of its own, as it is appended."""
    message = plan(seq, name, org_id=org_id or f"org-{seq}")
    return seq, message.key, payloads([message])[0]


@pytest.fixture
def session(ledger: Ledger) -> Iterator[Connection[Any]]:
    """A worker's session; before it nothing was ever appended."""
    ledger.execute(
        "ALTER TABLE ledger.registry_change DISABLE TRIGGER USER; DELETE FROM ledger.registry_change;"
        "ALTER TABLE ledger.registry_change ENABLE TRIGGER USER; UPDATE ledger.fence SET seq = 0, rerated_seq = 0"
    )
    with closing(connect(ledger.dsn, "test", autocommit=True)) as connection:
        yield connection


def append(connection: Connection[Any], *changes: tuple[int, str, bytes]) -> None:
    """In a transaction of its own."""
    with connection.transaction():
        registry_log.append(connection, changes)


def read_on(connection: Connection[Any], log: FoldedLog) -> list[int]:
    """What came since the last time."""
    seqs = []
    for each in registry_log.after(connection, log.arrival):
        log.take_in(each)
        seqs.append(each.seq)
    return seqs


def test_what_fills_a_hole_is_read_once_like_everything_else(session: Connection[Any]) -> None:
    log = FoldedLog()
    append(session, change(1), change(4))
    assert (read_on(session, log), log.directory.seq) == ([1, 4], 4)
    append(session, change(1), change(3), change(4), change(5))
    append(session, change(2))
    assert (read_on(session, log), log.directory.seq) == ([3, 5, 2], 5)
    assert log.directory.plan_at("org-2", NOW) is Plan.PRO
    assert read_on(session, log) == []


def test_the_newest_of_a_subject_counts_whenever_it_came(session: Connection[Any]) -> None:
    log = FoldedLog()
    append(session, change(7, "enterprise", org_id="acme"))
    read_on(session, log)
    append(session, change(5, "free", org_id="acme"))
    (late,) = registry_log.after(session, log.arrival)
    assert log.take_in(late) is None
    assert log.directory.plan_at("acme", NOW) is Plan.ENTERPRISE
    with session.transaction():
        assert registry_log.directory_upto(session, 6).plan_at("acme", NOW) is Plan.FREE
        assert registry_log.directory_upto(session).plan_at("acme", NOW) is Plan.ENTERPRISE
        assert [seq for seq, _ in registry_log.upto(session)] == [5, 7]


def test_nobody_sees_a_change_before_one_that_came_earlier(ledger: Ledger, session: Connection[Any]) -> None:
    """Two workers append at once, and the one that began later is done first."""
    log = FoldedLog()
    with closing(connect(ledger.dsn, "test-slow")) as slow, closing(connect(ledger.dsn, "test-quick")) as quick:
        registry_log.append(slow, [change(1)])

        def append_and_commit() -> None:
            registry_log.append(quick, [change(2)])
            quick.commit()

        other = threading.Thread(target=append_and_commit)
        other.start()
        wait_until_it_waits_or_ends(session, other)
        seen = read_on(session, log)
        slow.commit()
        other.join(PATIENCE_SECONDS)
        assert not other.is_alive()
    assert sorted(seen + read_on(session, log)) == [1, 2]


def wait_until_it_waits_or_ends(connection: Connection[Any], thread: threading.Thread) -> None:
    """For a lock of the database."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while thread.is_alive() and connection.execute(_WAITS).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_same_number_with_another_content_is_another_registry(session: Connection[Any]) -> None:
    append(session, change(1), change(2))
    with pytest.raises(RegistryForkedError, match="2"):
        append(session, change(3), change(2, "enterprise"))
    assert read_on(session, FoldedLog()) == [1, 2]


def test_of_what_was_read_only_what_is_not_there_yet_counts(session: Connection[Any]) -> None:
    append(session, change(1), change(2))
    read = [(seq, payload) for seq, _key, payload in (change(2), change(3), change(1), change(4))]
    assert registry_log.unknown(session, read) == [change(3)[2], change(4)[2]]
    with pytest.raises(RegistryForkedError, match="2"):
        registry_log.unknown(session, [(1, change(1)[2]), (2, change(2, "enterprise")[2])])


def test_a_copy_goes_on_by_itself(session: Connection[Any]) -> None:
    log = FoldedLog()
    append(session, change(1), change(2))
    read_on(session, log)
    copy = log.copy()
    append(session, change(3), change(4, "enterprise", org_id="org-1"))
    assert (read_on(session, copy), copy.directory.seq, log.directory.seq) == ([3, 4], 4, 2)
    assert (copy.directory.plan_at("org-1", NOW), log.directory.plan_at("org-1", NOW)) == (Plan.ENTERPRISE, Plan.PRO)
    assert read_on(session, log) == [3, 4]


def test_what_came_late_is_worked_off_again_where_it_says_more_than_was_known(session: Connection[Any]) -> None:
    append(session, change(1), change(4), change(9, org_id="acme"))
    session.execute("UPDATE ledger.fence SET seq = 9, rerated_seq = 9")
    append(session, change(8, "free", org_id="acme"))
    assert session.execute("SELECT rerated_seq FROM ledger.fence").fetchone() == (9,)
    append(session, change(3), change(10))
    assert session.execute("SELECT rerated_seq FROM ledger.fence").fetchone() == (2,)
