"""Every committed entry gets one place, whoever writes, is slow, or is killed; and readers that go on miss none."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain

import psycopg
import pytest

from services.local.children import foreign_environment
from services.local.embedded.account import executables_for
from services.metering.sequencer import Sequencer, place_entries
from services.runtime.database import connect
from tests.integration.metering.feed import PAGE, Place, book, feed, leaders, place, read, sequencer
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, key, node_call, plan, publish, rerate
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS, wait_for


def positions(places: list[Place]) -> list[int]:
    return [each.position for each in places]


def ids(places: list[Place]) -> list[uuid.UUID]:
    return [each.entry_id for each in places]


@contextmanager
def writer(ledger: Ledger, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    with closing(psycopg.connect(ledger.dsn, autocommit=autocommit)) as connection:
        yield connection


class Loader(threading.Thread):
    """Reads the view on and on, a few entries at a time, until it has read as many as are told in the end."""

    def __init__(self, ledger: Ledger, limit: int = 7) -> None:
        super().__init__(daemon=True)
        self._dsn = ledger.dsn
        self._limit = limit
        self._enough: int | None = None
        self.found: list[Place] = []

    def run(self) -> None:
        last = 0
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while self._enough is None or len(self.found) < self._enough:
                page = read(connection, last, self._limit)
                self.found += page
                last = page[-1].position if page else last

    def end(self, how_many: int) -> None:
        """Wait until so many have been read."""
        self._enough = how_many
        self.join(PATIENCE_SECONDS)


def test_a_batch_that_commits_late_gets_a_late_place(ledger: Ledger) -> None:
    with writer(ledger) as slow, writer(ledger) as quick:
        late = book(slow, 3)
        first = book(quick, 2)
        quick.commit()
        assert place(ledger) == 2
        assert feed(ledger) == [Place(1, first[0]), Place(2, first[1])]
        second = book(quick, 1)
        quick.commit()
        slow.commit()
    assert place(ledger) == 4
    assert positions(feed(ledger)) == [1, 2, 3, 4, 5, 6]
    assert set(ids(feed(ledger, 2))) == {*late, *second}
    assert place(ledger) == 0


def test_what_is_rolled_back_leaves_no_hole(ledger: Ledger) -> None:
    with writer(ledger) as connection:
        book(connection, 5)
        connection.rollback()
        kept = book(connection, 1)
        connection.execute("SAVEPOINT before")
        book(connection, 4)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO ledger.entry SELECT * FROM ledger.entry")
        connection.execute("ROLLBACK TO before")
        connection.execute("INSERT INTO ledger.entry SELECT * FROM ledger.entry ON CONFLICT DO NOTHING")
        connection.commit()
    assert place(ledger) == 1
    assert feed(ledger) == [Place(1, kept[0])]


def test_batches_are_taken_oldest_first_in_bounded_parts(ledger: Ledger) -> None:
    with writer(ledger, autocommit=True) as connection:
        batches = [book(connection, size) for size in (3, 3, 8, 1)]
    with closing(connect(ledger.dsn, "test", autocommit=True)) as connection:
        assert [place_entries(connection, most=5) for _ in range(4)] == [6, 8, 1, 0]
    assert ids(feed(ledger)) == [*chain.from_iterable(batches)]
    assert positions(feed(ledger)) == list(range(1, 16))


def test_a_reader_sees_nothing_of_places_that_are_being_given(ledger: Ledger) -> None:
    with writer(ledger, autocommit=True) as connection:
        book(connection, 3)
    with writer(ledger) as giving, closing(connect(ledger.dsn, "test", autocommit=True)) as another:
        giving.execute("SELECT ledger.place_entries(100)")
        with writer(ledger, autocommit=True) as connection:
            book(connection, 2)
        assert feed(ledger) == []
        # And nobody gives places beside it: they could be seen before those.
        another.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            place_entries(another)
        giving.commit()
        assert place_entries(another) == 2
    assert positions(feed(ledger)) == [1, 2, 3, 4, 5]


def test_a_service_can_give_places_in_no_other_way(ledger: Ledger) -> None:
    with writer(ledger, autocommit=True) as connection:
        book(connection, 1)
        place(ledger)
        for statement in (
            "DELETE FROM ledger.entry_batch",
            "INSERT INTO ledger.entry_batch (entries, entry_ids) VALUES (1, '{}')",
            "INSERT INTO ledger.entry_position VALUES (9, gen_random_uuid())",
            "UPDATE ledger.entry_position SET position = 9",
            "DELETE FROM ledger.entry_position",
            "UPDATE ledger.feed SET run = ''",
            "UPDATE ledger.sum_by_day SET events = 9",
            "DELETE FROM ledger.sum_use",
            "INSERT INTO ledger.sum_user VALUES (gen_random_uuid(), 'acme', 'ada', NULL)",
            "SELECT ledger.add_up_entries('{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    for statement in ("UPDATE ledger.entry_position SET position = 9", "TRUNCATE ledger.entry_position"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            ledger.execute(statement)


def test_what_one_transaction_booked_gets_its_places_together(ledger: Ledger) -> None:
    """So no sum has a reversal without its correction, which are two statements."""
    with writer(ledger) as connection, writer(ledger, autocommit=True) as another:
        first = book(connection, 3)
        between = book(another, 1)
        second = book(connection, 3)
        connection.commit()
        assert place_entries(another, most=1) == 6
        assert ids(feed(ledger)) == [*first, *second]
        assert place_entries(another, most=1) == 1
        assert ids(feed(ledger, 6)) == between


class Writer(threading.Thread):
    """Opens transactions, some of which stay open while many others commit, and ends each in one of three ways."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(daemon=True)
        self._dsn = ledger.dsn
        self._chance = random.Random(seed)  # noqa: S311 - a seed that repeats is what is wanted
        self._open: list[tuple[psycopg.Connection, list[uuid.UUID]]] = []
        self.committed: list[uuid.UUID] = []

    def run(self) -> None:
        for _ in range(60):
            connection = psycopg.connect(self._dsn)
            sizes = [self._chance.randint(1, 20) for _ in range(self._chance.randint(1, 3))]
            self._open.append((connection, [each for size in sizes for each in book(connection, size)]))
            while len(self._open) > self._chance.randint(0, 6):
                self._end_one()
        while self._open:
            self._end_one()

    def _end_one(self) -> None:
        connection, booked = self._open.pop(self._chance.randrange(len(self._open)))
        match self._chance.randrange(4):
            case 0:
                connection.rollback()
            case 1:
                # As if the process had been killed: the server finds that nobody is there.
                with socket.socket(fileno=os.dup(connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)
            case _:
                connection.commit()
                self.committed.extend(booked)
        connection.close()


@pytest.mark.slow
def test_slow_killed_and_quick_writers_three_sequencers_and_two_readers(ledger: Ledger) -> None:
    """Sequencers are killed with -9 in turn."""
    loaders = [Loader(ledger), Loader(ledger, limit=1_000)]
    writers = [Writer(ledger, seed) for seed in range(3)]
    with ExitStack() as stack:
        running = [stack.enter_context(sequencer(ledger)) for _ in range(3)]
        for thread in [*loaders, *writers]:
            thread.start()
        while any(thread.is_alive() for thread in writers):
            assert len(wait_for("one to lead", lambda: leaders(ledger))) == 1
            # Each in its turn; after a while it is the one that leads.
            running.pop(0).kill()
            running.append(stack.enter_context(sequencer(ledger)))
            writers[0].join(0.5)
        committed = sorted(chain.from_iterable(thread.committed for thread in writers))
        for loader in loaders:
            loader.end(len(committed))
    for loader in loaders:
        assert sorted(ids(loader.found)) == committed
        assert positions(loader.found) == list(range(1, len(committed) + 1))
    assert loaders[0].found == loaders[1].found == feed(ledger)


@pytest.mark.slow
def test_one_that_is_killed_in_the_middle_leaves_nothing_behind_and_another_takes_over(
    ledger: Ledger, postgres: Database
) -> None:
    with writer(ledger, autocommit=True) as connection:
        booked = book(connection, 5)
    with psycopg.connect(ledger.owner_dsn) as blocking:
        # Whoever gives places has taken the batches out by then, and waits to write.
        blocking.execute("LOCK TABLE ledger.entry_position IN SHARE MODE")
        with sequencer(ledger) as first:
            wait_for("it to be in the middle", lambda: _waiting(postgres))
            first.kill()
            first.wait()
        assert feed(ledger) == []
        blocking.commit()
        with sequencer(ledger):
            wait_for("another to do it", partial(_has, ledger, 5))
    assert feed(ledger) == [Place(number, entry_id) for number, entry_id in enumerate(booked, start=1)]


def _has(ledger: Ledger, how_many: int) -> bool:
    return len(feed(ledger)) == how_many


def _waiting(postgres: Database) -> bool:
    with postgres.server.connect() as admin:
        found = admin.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = 'byok-metering-sequencer'"
            " AND wait_event_type = 'Lock'"
        )
        return found.fetchone() is not None


@pytest.mark.slow
def test_one_that_is_stopped_loses_its_turn(ledger: Ledger) -> None:
    with sequencer(ledger) as stopped:
        wait_for("it to lead", lambda: leaders(ledger))
        stopped.send_signal(signal.SIGSTOP)
        with writer(ledger, autocommit=True) as connection:
            book(connection, 1)
        with sequencer(ledger):
            wait_for("another to do it", partial(_has, ledger, 1))


def test_it_goes_on_after_its_connection_is_lost(ledger: Ledger, postgres: Database) -> None:
    stop = threading.Event()
    running = threading.Thread(target=Sequencer(ledger.dsn).run, args=(stop,))
    running.start()
    try:
        for how_many in (1, 2, 3):
            with writer(ledger, autocommit=True) as connection:
                book(connection, 1)
            wait_for("it to be placed", partial(_has, ledger, how_many))
            postgres.disconnect_all("ledger_service")
    finally:
        stop.set()
        running.join(PATIENCE_SECONDS)
    assert not running.is_alive()


@pytest.mark.slow
def test_three_workers_and_the_rerater_book_and_all_of_it_is_in_the_feed(
    ledger: Ledger, broker: str, topic: str
) -> None:
    """By the code that books: redeliveries are no entries, reversals and corrections are."""
    loader = Loader(ledger)

    async def work() -> None:
        workers = [Worker(ledger.dsn, broker, topic) for _ in range(3)]
        for worker in workers:
            await worker.learn(*cards(), plan(3, "pro"))
        for round_ in range(8):
            records = [
                publish(broker, topic, partition, *(node_call(f"{round_}-{n // 2}") for n in range(6)), b"junk")
                for partition in (0, 1)
            ]
            await asyncio.gather(*(worker.book(found) for worker, found in zip(workers, records, strict=False)))
            workers.append(workers.pop(0))
            for worker in workers:
                worker.book.forget_positions()
        for worker in workers:
            await worker.learn(key(4, ("2026-05-01T00:00:00Z", None)))
        await asyncio.to_thread(rerate, ledger.dsn)
        for worker in workers:
            await worker.stop()

    stop = threading.Event()
    sequencers = [threading.Thread(target=Sequencer(ledger.dsn).run, args=(stop,)) for _ in range(3)]
    for thread in (loader, *sequencers):
        thread.start()
    try:
        asyncio.run(asyncio.wait_for(work(), PATIENCE_SECONDS))
        entries = ledger.entries()
        assert {entry["kind"] for entry in entries} == {"charge", "reversal", "correction"}
        loader.end(len(entries))
    finally:
        stop.set()
        for thread in sequencers:
            thread.join(PATIENCE_SECONDS)
    assert sorted(ids(loader.found)) == sorted(entry["entry_id"] for entry in entries)
    assert positions(loader.found) == list(range(1, len(entries) + 1))


def test_a_page_is_read_by_index_alone_and_without_sorting(ledger: Ledger) -> None:
    """Whatever the size of the ledger: benchmarks/bench_feed.py has what a page of a large one takes."""
    with writer(ledger, autocommit=True) as connection:
        for _ in range(20):
            book(connection, 1_000)
        place(ledger)
        ledger.execute("ANALYZE ledger.entry, ledger.entry_position")
        whole = PAGE.replace("position, entry_id", "*")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {whole}", (15_000, 100)))
    assert "Index Scan using entry_position_pkey" in plan
    assert "Index Scan using entry_pkey" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def _name(ledger: Ledger) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(ledger.dsn)["dbname"])


@pytest.mark.slow
def test_places_survive_a_copy_and_go_on_beyond_what_was_given_before(ledger: Ledger, postgres: Database) -> None:
    """Who had read more than the copy has, of the ledger that was lost, misses nothing that is booked to the copy."""
    with writer(ledger, autocommit=True) as connection:
        book(connection, 700)
        place(ledger)
        waiting = book(connection, 2)
    name = f"copy_of_{_name(ledger)}"
    postgres.create(name, "ledger_owner", template=_name(ledger))
    copy = Ledger(postgres, name)
    with writer(ledger, autocommit=True) as connection:
        book(connection, 198)
    place(ledger)
    before = feed(ledger)
    assert before[-1].position == 900
    assert feed(copy) == before[:700]
    with writer(copy, autocommit=True) as connection:
        booked = waiting + book(connection, 1)
        place(copy)
        assert ids(read(connection, 900)) == booked
        assert feed(copy)[:700] == before[:700]
        # And a second time: from the very copy, for a reader that had read of the first.
        last = feed(copy)[-1].position
        again = f"again_{name}"
    postgres.create(again, "ledger_owner", template=name)
    second = Ledger(postgres, again)
    with writer(second, autocommit=True) as connection:
        book(connection, 1)
        place(second)
        (found,) = read(connection, last)
        # One step, and from then on one by one.
        book(connection, 1)
        place(second)
        assert positions(read(connection, last)) == [found.position, found.position + 1]


def test_places_survive_a_dump_and_its_restoring(ledger: Ledger, postgres: Database) -> None:
    with writer(ledger, autocommit=True) as connection:
        book(connection, 5)
        place(ledger)
        waiting = book(connection, 2)
    name = f"restored_{_name(ledger)}"
    postgres.create(name, "ledger_owner")
    restored = Ledger(postgres, name)
    programs = executables_for(None)
    run = partial(subprocess.run, env=foreign_environment(), check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    dump = run([programs / "pg_dump", ledger.owner_dsn]).stdout
    run([programs / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", restored.owner_dsn], input=dump)
    assert feed(restored) == feed(ledger)
    # What had no place yet is given one; and nothing that had one is given another.
    assert place(restored) == 2
    assert feed(restored)[:5] == feed(ledger)
    assert ids(feed(restored, 900)) == waiting


@pytest.mark.slow
def test_a_server_that_was_started_again_goes_on_beyond_what_was_given_before(
    ledger: Ledger, postgres: Database
) -> None:
    """Its files may be older ones that were put back: nothing in them would tell."""
    with writer(ledger, autocommit=True) as connection:
        book(connection, 3)
    place(ledger)
    postgres.stop()
    postgres.start()
    with writer(ledger, autocommit=True) as connection:
        book(connection, 2)
    place(ledger)
    before, after = feed(ledger)[:3], feed(ledger, 3)
    assert positions(before) == [1, 2, 3]
    assert after[0].position > 1_000_000_000_000_000
    assert after[1].position == after[0].position + 1
