"""The rows of the next batch are brought while one is booked; whatever becomes of them, each event is booked once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from services.books.source_traces import write_traces
from services.domain.directory import Directory
from services.messages.registry_changes import to_change
from services.metering.booking import ledger_writer
from services.metering.booking.ledger_writer import BehindFenceError, Booked, LedgerWriter, RowsMissingError
from services.metering.booking.pricing import Covered, PricedBatch, Record, price_batch, read_elements
from services.metering.booking.staging import Staged
from services.runtime.database import is_outage
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import NOW, Worker, cards, node_call, publish
from tests.patience import PATIENCE_SECONDS, wait_for


@pytest.fixture
def writer(ledger: Ledger) -> Iterator[LedgerWriter]:
    one = LedgerWriter(ledger.dsn, "cluster-1", "usage-events")
    one.begin({0: 0})
    one.positions([0])
    yield one
    one.close()


@pytest.fixture(scope="module")
def directory() -> Directory:
    known = Directory()
    for change in cards():
        known.apply(change.seq, to_change(change))
    return known


def priced(directory: Directory, offset: int, *names: str) -> PricedBatch:
    """One record with these events, at this offset."""
    value = json.dumps([node_call(name) for name in names]).encode()
    read = read_elements(Record(0, offset, b"acme", value, NOW.timestamp()), NOW)
    return price_batch([Covered(0, offset, offset + 1)], [read], directory)


def brought(writer: LedgerWriter, batch: PricedBatch) -> Staged:
    """The batch as it is staged, its rows with the database."""
    staged = writer.stage(batch)
    writer.bring(staged)
    return staged


def booked(ledger: Ledger) -> list[str]:
    return [entry["event_id"] for entry in ledger.entries()]


def has_rows_ahead(writer: LedgerWriter) -> bool:
    return writer._ahead is not None and writer._ahead.staged is not None


def end_session_ahead(ledger: Ledger, writer: LedgerWriter) -> None:
    assert writer._ahead is not None
    pid = writer._ahead.connection.info.backend_pid
    with psycopg.connect(ledger.dsn, autocommit=True) as same_role:
        assert same_role.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


def counts(result: Booked) -> tuple[int, int, int]:
    return result.recorded, result.duplicates, result.dead_letters


def test_batches_are_booked_in_turn_each_with_the_rows_that_were_brought(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batches = [priced(directory, offset, f"{offset}-a", f"{offset}-b") for offset in range(4)]
    staged = [writer.stage(batch) for batch in batches]
    sessions = set()
    for number, batch in enumerate(batches):
        if number + 1 < len(batches):
            writer.bring(staged[number + 1])
        assert counts(writer.book(batch, staged[number])) == (2, 0, 0)
        assert writer._connection is not None
        sessions.add(writer._connection.info.backend_pid)
    assert booked(ledger) == [f"{offset}-{name}" for offset in range(4) for name in "ab"]
    assert len(sessions) == 2


def test_what_is_brought_locks_nothing_and_is_seen_by_nobody(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batch = priced(directory, 0, "a")
    brought(writer, batch)
    other = LedgerWriter(ledger.dsn, "cluster-1", "usage-events")
    other.positions([0])
    assert counts(other.book(batch)) == (1, 0, 0)
    other.close()
    assert booked(ledger) == ["a"]


def test_a_batch_that_is_priced_anew_is_booked_as_it_is_then(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batch = priced(directory, 0, "a", "b")
    brought(writer, batch)
    ledger.execute("UPDATE ledger.fence SET seq = 1000")
    with pytest.raises(BehindFenceError):
        writer.book(batch, writer.stage(batch))
    anew = batch._replace(registry_seq=1000)
    assert counts(writer.book(anew, writer.stage(anew))) == (2, 0, 0)
    assert booked(ledger) == ["a", "b"]


def test_a_batch_that_is_refused_after_its_rows_were_brought_is_brought_again(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batch = priced(directory, 0, "a")
    staged = brought(writer, batch)
    ledger.execute("UPDATE ledger.fence SET seq = 1000")
    with pytest.raises(BehindFenceError):
        writer.book(batch, staged)
    ledger.execute("UPDATE ledger.fence SET seq = 0")
    assert counts(writer.book(batch, staged)) == (1, 0, 0)
    assert booked(ledger) == ["a"]


def test_rows_of_another_batch_are_never_booked_in_its_place(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    first, second = priced(directory, 0, "a"), priced(directory, 1, "b")
    staged = brought(writer, second)
    assert counts(writer.book(first)) == (1, 0, 0)
    assert booked(ledger) == ["a"]
    assert counts(writer.book(second, staged)) == (1, 0, 0)
    assert booked(ledger) == ["a", "b"]


def test_what_was_brought_long_ago_is_brought_again(ledger: Ledger, writer: LedgerWriter, directory: Directory) -> None:
    batch, following = priced(directory, 0, "a"), priced(directory, 1, "b")
    staged = brought(writer, batch)
    assert writer._ahead is not None
    writer._ahead = writer._ahead._replace(since=0.0)
    end_session_ahead(ledger, writer)
    assert counts(writer.book(batch, staged)) == (1, 0, 0)
    # The session that was ended meanwhile is opened anew, if not at the first attempt.
    staged = writer.stage(following)
    with pytest.raises(psycopg.OperationalError):
        writer.bring(staged)
    writer.bring(staged)
    assert counts(writer.book(following, staged)) == (1, 0, 0)
    assert booked(ledger) == ["a", "b"]


def test_a_session_that_ends_with_the_rows_is_an_outage_after_which_all_is_booked(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batch = priced(directory, 0, "a")
    staged = brought(writer, batch)
    end_session_ahead(ledger, writer)
    with pytest.raises(psycopg.OperationalError) as ended:
        writer.book(batch, staged)
    assert is_outage(ended.value)
    writer.close()
    assert counts(writer.book(batch, staged)) == (1, 0, 0)
    assert booked(ledger) == ["a"]


def test_rows_that_are_gone_are_noticed_and_nothing_is_booked(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    batch = priced(directory, 0, "a", "b")
    staged = brought(writer, batch)
    assert writer._ahead is not None
    writer._ahead.connection.rollback()
    with pytest.raises(RowsMissingError, match="of 2 rows 0 are new and 0 were there"):
        writer.book(batch, staged)
    assert booked(ledger) == []
    assert ledger.rows("SELECT next_offset FROM ledger.source_partition") == [{"next_offset": 0}]


def test_duplicates_and_conflicts_are_found_among_rows_that_were_brought(
    ledger: Ledger, writer: LedgerWriter, directory: Directory
) -> None:
    writer.book(priced(directory, 0, "a", "b"))
    value = json.dumps([node_call("a"), node_call("b", data={"user_id": "bob"}), node_call("c")]).encode()
    read = read_elements(Record(0, 1, b"acme", value, NOW.timestamp()), NOW)
    again = price_batch([Covered(0, 1, 2)], [read], directory)
    staged = brought(writer, again)
    assert counts(writer.book(again, staged)) == (1, 1, 1)
    assert booked(ledger) == ["a", "b", "c"]


def test_while_one_call_books_the_rows_of_the_next_are_brought(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, sessions = threading.Event(), []

    def waiting(connection: psycopg.Connection[Any], *arguments: Any) -> None:
        sessions.append(connection.info.backend_pid)
        assert let_go.wait(PATIENCE_SECONDS)
        write_traces(connection, *arguments)

    monkeypatch.setattr(ledger_writer, "write_traces", waiting)

    async def test() -> None:
        records = publish(broker, topic, 0, node_call("a"), node_call("b"))
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        async with asyncio.TaskGroup() as calls:
            for record in records:
                calls.create_task(worker.book([record]))
            await asyncio.to_thread(wait_for, "rows brought ahead", lambda: has_rows_ahead(worker.writer))
            assert booked(ledger) == []
            let_go.set()
        await worker.stop()

    try:
        asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    finally:
        let_go.set()
    assert booked(ledger) == ["a", "b"]
    assert len(sessions) == len(set(sessions)) == 2


def test_a_call_whose_rows_are_long_in_coming_is_overtaken_by_none(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, is_bringing, brought = threading.Event(), threading.Event(), threading.Event()

    def waiting(connection: psycopg.Connection[Any], *arguments: Any) -> None:
        assert let_go.wait(PATIENCE_SECONDS)
        write_traces(connection, *arguments)

    monkeypatch.setattr(ledger_writer, "write_traces", waiting)

    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(name) for name in "abc"))
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        bring = worker.writer.bring

        def slowly(staged: Staged) -> None:
            is_bringing.set()
            assert brought.wait(PATIENCE_SECONDS)
            bring(staged)

        monkeypatch.setattr(worker.writer, "bring", slowly)
        # Nothing is missing, so nothing is looked for in the log.
        monkeypatch.setattr(worker.gaps, "read", None)
        first = asyncio.create_task(worker.book(records[:1]))
        async with asyncio.TaskGroup() as calls:
            calls.create_task(worker.book(records[1:2]))
            assert await asyncio.to_thread(is_bringing.wait, PATIENCE_SECONDS)
            let_go.set()
            await first
            third = calls.create_task(worker.book(records[2:]))
            await asyncio.wait({third}, timeout=1.0)
            assert booked(ledger) == ["a"]
            brought.set()
        await worker.stop()

    try:
        asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    finally:
        let_go.set()
        brought.set()
    assert booked(ledger) == ["a", "b", "c"]
