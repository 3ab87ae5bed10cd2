"""A worker that is stopped in the middle of a transaction, and comes back when its partition is another's."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from typing import Any

import psycopg
import pytest

from services.books.locks import FENCE
from services.messages import registry_changes
from services.metering.booking import ledger_writer
from services.metering.booking.ledger_writer import IDLE_SECONDS
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating import rerater
from services.metering.rerating.rerater import Rerater
from services.runtime import database
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, payloads, plan, publish
from tests.patience import PATIENCE_SECONDS, wait_for

_TAKEN_OVER_SECONDS = 40.0
"""The server ends a session that is silent for 5 s; the one that is stopped is let go after this at the earliest."""


@pytest.fixture
def long_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction is ended for its length alone, which would let the others go on as well, if later."""
    monkeypatch.setattr(database, "_TRANSACTION_SECONDS", int(10 * PATIENCE_SECONDS))


class Stop:
    """Holds the first thread that comes by until it is let go, as SIGSTOP would."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.let_go.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("owner", "place"),
    [
        # The fence is passed, and the partition's row is locked.
        pytest.param(ledger_writer, "write_traces", id="between two statements"),
        pytest.param(psycopg.Copy, "write", id="while rows are copied"),
    ],
)
@pytest.mark.usefixtures("long_transactions")
def test_a_batch_stopped_on_its_way_holds_up_nobody_and_is_not_booked_twice(
    owner: Any, place: str, ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, original = Stop(), getattr(owner, place)

    def stopping(*arguments: Any) -> Any:
        stop()
        return original(*arguments)

    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(name) for name in "abc"))
        stopped, other = Worker(ledger.dsn, broker, topic), Worker(ledger.dsn, broker, topic)
        for worker in (stopped, other):
            await worker.learn(*cards())
        monkeypatch.setattr(owner, place, stopping)
        held = asyncio.create_task(stopped.book(records))
        assert await asyncio.to_thread(stop.reached.wait, PATIENCE_SECONDS)
        await asyncio.wait_for(other.book(records), _TAKEN_OVER_SECONDS)
        stop.let_go.set()
        # It finds out that it is too late, looks again, and has nothing left to do.
        await held
        for worker in (stopped, other):
            await worker.stop()

    try:
        asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    finally:
        stop.let_go.set()
    assert [entry["event_id"] for entry in ledger.entries()] == ["a", "b", "c"]
    (row,) = ledger.rows("SELECT sum(recorded) AS recorded, sum(duplicates) AS duplicates FROM ledger.covered_range")
    assert (row["recorded"], row["duplicates"]) == (3, 0)


@pytest.mark.usefixtures("long_transactions")
def test_a_follower_stopped_on_its_way_holds_up_nobody(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()

    def stopping(rows: Any) -> Any:
        yield from rows
        # All changes are inserted, and not committed.
        stop()

    original = RegistryFollower._append
    monkeypatch.setattr(RegistryFollower, "_append", lambda self, rows: original(self, stopping(rows)))

    async def test() -> None:
        changes = payloads([*cards(), plan(3, "pro")])
        stopped, other = Worker(ledger.dsn, broker, topic), Worker(ledger.dsn, broker, topic)
        held = asyncio.create_task(stopped.follower.take_in(changes))
        assert await asyncio.to_thread(stop.reached.wait, PATIENCE_SECONDS)
        await asyncio.wait_for(other.follower.take_in(changes), _TAKEN_OVER_SECONDS)
        stop.let_go.set()
        await held
        assert stopped.directory.seq == other.directory.seq == 3

    try:
        asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    finally:
        stop.let_go.set()


def test_a_rerater_stopped_on_its_way_holds_up_nobody(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped between two statements: it holds no lock but the one by which it is the re-rater.
    stop, original = Stop(), rerater._reversed

    def stopping(*arguments: Any) -> Any:
        stop()
        return original(*arguments)

    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(name) for name in "abc"))
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        await worker.book(records)
        await worker.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    monkeypatch.setattr(rerater, "_reversed", stopping)
    end = threading.Event()
    reraters = [threading.Thread(target=Rerater(ledger.dsn).run, args=(end,)) for _ in range(2)]
    reraters[0].start()
    try:
        assert stop.reached.wait(PATIENCE_SECONDS)
        reraters[1].start()
        worked_off = "SELECT 1 FROM ledger.fence WHERE rerated_seq = 4"
        wait_for("the other to take over", lambda: ledger.rows(worked_off) or None, _TAKEN_OVER_SECONDS)
    finally:
        # The one that was stopped goes on where it was, before it sees that it should end.
        stop.let_go.set()
        end.set()
        for thread in reraters:
            thread.join(PATIENCE_SECONDS)
    kinds = [(entry["event_id"], entry["kind"]) for entry in ledger.entries()]
    assert kinds == [(event, kind) for event in "abc" for kind in ("charge", "reversal", "correction")]


def test_a_worker_stopped_while_it_sends_a_statement_loses_its_locks(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that has heard the beginning of a statement is not idle, and waits for its end.
    monkeypatch.setattr(database, "_TRANSACTION_SECONDS", 3)
    lock = "SELECT pg_try_advisory_lock(%s) AS free"
    with closing(database.connect(ledger.dsn, "metering", idle_seconds=IDLE_SECONDS)) as stopped:
        stopped.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
        stopped.pgconn.nonblocking = 1
        stopped.pgconn.send_query_params(b"SELECT length($1::bytea)", [b"x" * 64_000_000], param_formats=[1])
        assert stopped.pgconn.flush() == 1, "all of it was sent"
        assert not ledger.rows(lock, FENCE)[0]["free"]
        wait_for("the lock to be free", lambda: ledger.rows(lock, FENCE)[0]["free"])


def test_a_rerater_that_thinks_for_long_is_not_taken_for_a_stopped_one(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [key(seq, (LONG_AGO, None), owner=f"owner-{seq}") for seq in range(3, 12)]

    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), *changes)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))

    def slow(message: Any) -> Any:
        time.sleep(0.3)
        return registry_changes.to_change(message)

    monkeypatch.setattr(rerater, "to_change", slow)
    monkeypatch.setattr(rerater, "IDLE_SECONDS", 2)
    end = threading.Event()
    thread = threading.Thread(target=Rerater(ledger.dsn).run, args=(end,))
    thread.start()
    worked_off = "SELECT 1 FROM ledger.fence WHERE rerated_seq = 11"
    try:
        wait_for("the changes to be worked off", lambda: ledger.rows(worked_off))
    finally:
        end.set()
        thread.join(PATIENCE_SECONDS)
