"""Covered ranges are merged while workers book: nothing of what they say is lost, and every check sees what it saw."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from services.metering.upkeep.covered_ranges import RangeMerger
from services.metering.upkeep.upkeep import Keep, Upkeep
from services.proof.entries import Difference
from services.proof.verify import verify
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, node_call, publish
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS

MANY = 250
_SAID = "sum(events) AS events, sum(recorded) AS recorded, sum(duplicates) AS duplicates, sum(dead_letters) AS letters"


def said(ledger: Ledger) -> list[dict[str, Any]]:
    """What the ranges of each partition say together, and how many batches they stand for."""
    return ledger.rows(
        f"""SELECT source_partition_id, min(from_offset) AS first, max(to_offset) AS upto,
            sum(to_offset - from_offset) AS offsets, sum(batches) AS batches, {_SAID},
            min(coalesce(first_recorded_at, recorded_at)) AS since, max(recorded_at) AS until
            FROM ledger.covered_range GROUP BY 1 ORDER BY 1"""
    )


def ranges(ledger: Ledger, partition: int = 1) -> list[tuple[int, int, int]]:
    rows = ledger.rows("SELECT * FROM ledger.covered_range WHERE source_partition_id = %s ORDER BY 2", partition)
    return [(row["from_offset"], row["to_offset"], row["batches"]) for row in rows]


def merge(ledger: Ledger, age: float = 0) -> int:
    with closing(connect(ledger.dsn, "test-upkeep", autocommit=True)) as connection:
        return RangeMerger(age).step(connection)


def differences(ledger: Ledger) -> list[Difference]:
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        return verify(connection).first


def partition_with(ledger: Ledger, *covered: tuple[int, int, int]) -> None:
    """A partition whose ranges (from, to, duplicates) are these."""
    upto = max(to for _, to, _ in covered)
    ledger.execute(
        "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
        f" VALUES ('c', 'byok.usage-events', 0, 0, {upto});"
        "INSERT INTO ledger.covered_range VALUES "
        + ", ".join(f"(1, {start}, {to}, {events}, 0, {events}, 0)" for start, to, events in covered)
    )


def chain(how_many: int, events: int = 1) -> list[tuple[int, int, int]]:
    return [(number, number + 1, events) for number in range(how_many)]


def add_another_chain(ledger: Ledger) -> None:
    """As long as the first, and one more, so that it begins where that one ends."""
    numbers = f"generate_series({MANY}, {2 * MANY}) AS n"
    ledger.execute(f"INSERT INTO ledger.covered_range SELECT 1, n, n + 1, 1, 0, 1, 0 FROM {numbers}")


async def _book_one_by_one(ledger: Ledger, broker: str, topic: str, booked: threading.Event) -> None:
    worker = Worker(ledger.dsn, broker, topic)
    await worker.learn(*cards())
    try:
        for partition in (0, 1):
            values = [node_call(f"{partition}-{number // 2}") for number in range(MANY)]
            for record in publish(broker, topic, partition, b"junk", *values):
                await worker.book([record])
                booked.set()
    finally:
        await worker.stop()


def test_what_is_booked_meanwhile_and_before_says_the_same(ledger: Ledger, broker: str, topic: str) -> None:
    booked, stop = threading.Event(), threading.Event()
    gone: list[int] = []

    def keep_merging() -> None:
        booked.wait(PATIENCE_SECONDS)
        with closing(connect(ledger.dsn, "test-upkeep", autocommit=True)) as connection:
            merger = RangeMerger(0)
            while not stop.is_set():
                gone.append(merger.step(connection))

    merging = threading.Thread(target=keep_merging)
    merging.start()
    try:
        asyncio.run(asyncio.wait_for(_book_one_by_one(ledger, broker, topic, booked), PATIENCE_SECONDS))
    finally:
        stop.set()
        booked.set()
        merging.join()
    merge(ledger)
    assert sum(gone) >= MANY // 2, "hardly anything was merged while others booked"
    for row in said(ledger):
        assert (row["first"], row["offsets"], row["batches"]) == (0, row["upto"], MANY + 1)
        assert (row["recorded"], row["duplicates"], row["letters"]) == (MANY // 2, MANY // 2, 1)
    assert sum(len(ranges(ledger, partition)) for partition in (1, 2)) < MANY // 2
    assert differences(ledger) == []


def test_each_count_and_time_is_what_it_was(ledger: Ledger) -> None:
    partition_with(ledger, *chain(MANY))
    before = said(ledger)
    assert merge(ledger) == MANY - 1
    assert ranges(ledger) == [(0, MANY, MANY)]
    assert said(ledger) == before
    # And again, with what came since.
    add_another_chain(ledger)
    before = said(ledger)
    assert merge(ledger) == MANY + 1
    assert (ranges(ledger), said(ledger)) == ([(0, 2 * MANY + 1, 2 * MANY + 1)], before)


def test_what_is_young_stays_one_for_each_batch(ledger: Ledger) -> None:
    partition_with(ledger, *chain(MANY))
    assert merge(ledger, age=3_600) == 0
    assert len(ranges(ledger)) == MANY


@pytest.mark.slow
def test_a_few_are_left_until_there_are_more(ledger: Ledger) -> None:
    partition_with(ledger, *chain(20))
    assert merge(ledger) == 0


def test_a_note_of_a_loss_and_a_hole_stay_as_they_are(ledger: Ledger) -> None:
    partition_with(ledger, *chain(10), (10, 40, 0), (40, 41, 1), (41, 42, 1), (50, 51, 1), (51, 52, 1))
    merge(ledger)
    assert ranges(ledger) == [(0, 10, 10), (10, 40, 1), (40, 42, 2), (50, 51, 1), (51, 52, 1)]


@pytest.mark.parametrize(("start", "end"), [(0, 4), (0, 5), (1, 4), (0, 8), (2, 9)])
@pytest.mark.slow
def test_the_database_itself_refuses_what_does_not_belong_together(ledger: Ledger, start: int, end: int) -> None:
    partition_with(ledger, (0, 2, 1), (2, 3, 1), (3, 6, 0), (6, 7, 1), (7, 8, 1))
    before = ranges(ledger)
    with connect(ledger.dsn, "test", autocommit=True) as service, pytest.raises(psycopg.errors.CheckViolation):
        service.execute("SELECT ledger.merge_covered_ranges(1, %s, %s)", (start, end))
    assert ranges(ledger) == before


def test_no_row_can_be_taken_out_but_by_being_merged(ledger: Ledger) -> None:
    partition_with(ledger, *chain(3))
    with psycopg.connect(ledger.owner_dsn) as owner:
        owner.execute("SELECT ledger.merge_covered_ranges(1, 0, 3)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            owner.execute("DELETE FROM ledger.covered_range")
    with connect(ledger.dsn, "test", autocommit=True) as service, pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("SET byok.taken_out_of = 'covered_range'; DELETE FROM ledger.covered_range")


@pytest.mark.slow
def test_a_merger_that_is_killed_has_done_nothing_and_another_does_it(ledger: Ledger, postgres: Database) -> None:
    partition_with(ledger, *chain(MANY))
    before = ranges(ledger)
    killed = connect(ledger.dsn, "test")
    killed.execute("SELECT ledger.merge_covered_ranges(1, 0, %s)", (MANY,))
    postgres.disconnect_all("ledger_service")
    with pytest.raises(psycopg.OperationalError):
        killed.commit()
    assert ranges(ledger) == before
    assert merge(ledger) == MANY - 1


def test_two_mergers_at_once_merge_once(ledger: Ledger) -> None:
    partition_with(ledger, *chain(MANY))
    merging = "SELECT ledger.merge_covered_ranges(1, 0, %s)"
    merged: list[Any] = []

    def merge_too() -> None:
        with connect(ledger.dsn, "test", autocommit=True) as connection:
            merged.append(connection.execute(merging, (MANY,)).fetchone())

    with connect(ledger.dsn, "test") as first:
        assert first.execute(merging, (MANY,)).fetchone() == (MANY,)
        second = threading.Thread(target=merge_too)
        second.start()
        _wait_for_a_lock(ledger)
        first.commit()
        second.join()
    assert merged == [(0,)]
    assert ranges(ledger) == [(0, MANY, MANY)]


def _wait_for_a_lock(ledger: Ledger) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ledger.rows("SELECT FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline, "nobody waits"


@pytest.mark.slow
def test_one_works_and_the_other_takes_over(ledger: Ledger, postgres: Database) -> None:
    partition_with(ledger, *chain(MANY))
    stop = threading.Event()
    keep = Keep(ranges_seconds=0, letter_days=365, replayable_letter_days=None)
    both = [threading.Thread(target=Upkeep(ledger.dsn, keep).run, args=(stop,)) for _ in range(2)]
    for each in both:
        each.start()
    try:
        _wait_for_one(ledger)
        add_another_chain(ledger)
        # Whoever led has lost its session; one of them leads again, and begins with what there is.
        postgres.disconnect_all("ledger_service")
        _wait_for_one(ledger)
    finally:
        stop.set()
        for each in both:
            each.join(PATIENCE_SECONDS)


def _wait_for_one(ledger: Ledger) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(ranges(ledger)) > 1:
        assert time.monotonic() < deadline, "nobody merges"
        time.sleep(0.05)


MERGED = {
    "a range wider": "UPDATE ledger.covered_range SET to_offset = to_offset + 1",
    "a range that says more": "UPDATE ledger.covered_range SET events = events + 1, recorded = recorded + 1",
    "a range deleted": "DELETE FROM ledger.covered_range",
    "a charge gone": "DELETE FROM ledger.entry WHERE event_id = '0-7'",
    "a charge elsewhere": "UPDATE ledger.entry SET source_offset = 1000 WHERE event_id = '0-7'",
    "a dead letter gone": "DELETE FROM ledger.dead_letter",
}


@pytest.mark.parametrize("what", MERGED)
@pytest.mark.slow
def test_what_is_altered_afterwards_is_found(
    ledger: Ledger, postgres: Database, broker: str, topic: str, what: str
) -> None:
    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        for record in publish(broker, topic, 0, b"junk", *(node_call(f"0-{number}") for number in range(110))):
            await worker.book([record])
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    assert merge(ledger) == 110
    assert differences(ledger) == []
    _tamper(postgres, ledger, MERGED[what])
    assert differences(ledger)


def _tamper(postgres: Database, ledger: Ledger, statement: str) -> None:
    with postgres.server.connect(ledger.dsn.rpartition("/")[2]) as admin:
        _as_a_superuser(admin, statement)


def _as_a_superuser(admin: Connection[Any], statement: str) -> None:
    admin.execute("SET session_replication_role = replica")
    admin.execute(statement)
