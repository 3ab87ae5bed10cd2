"""Too many dead letters: metering pauses, loses nothing, stays paused through a restart, and goes on when told to."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from services.metering.dead_letters import pause
from services.metering.dead_letters.pauser import Pauser
from services.metering.dead_letters.share import Count, Excess, Limit, Origin
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, node_call, publish
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS
from tests.typed import typed

LIMIT = Limit(share=0.5, window_seconds=300, min_events=10, spares_largest=False)
"""How a pause works, whoever the events are of: here all are of one organization."""
SPARING = Limit(share=0.5, window_seconds=300, min_events=10)
BAD = b"junk"


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


@asynccontextmanager
async def worker(ledger: Ledger, broker: str, topic: str, limit: Limit = LIMIT) -> AsyncIterator[Worker]:
    running = Worker(ledger.dsn, broker, topic, limit)
    await running.learn(*cards())
    watching = asyncio.create_task(running.pauser.watch())
    try:
        yield running
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await running.stop()


async def until(what: str, holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another process or thread
            await asyncio.sleep(0.02)
    assert holds(), what


def resume(ledger: Ledger) -> pause.Pause | None:
    """What the operator's command does."""
    with connect(ledger.dsn, "test", autocommit=True) as connection:
        return pause.end(connection)


def begun_after(before: pause.Pause, now: pause.Pause | None) -> bool:
    """Whether another pause is in force than the one before."""
    return now is not None and now.pause_id > before.pause_id


def events(ledger: Ledger) -> tuple[int, int]:
    """How many events are booked, and how many of them are dead letters."""
    (row,) = ledger.rows(
        "SELECT coalesce(sum(events), 0)::int AS events, coalesce(sum(dead_letters), 0)::int AS dead"
        " FROM ledger.covered_range"
    )
    return row["events"], row["dead"]


def assert_all_offsets_are_covered(ledger: Ledger, how_many: int) -> None:
    """Ranges meet end to end from the first offset to the last, in the one partition that was written to."""
    ranges = ledger.rows("SELECT * FROM ledger.covered_range ORDER BY from_offset")
    assert [row["from_offset"] for row in ranges] == [0, *(row["to_offset"] for row in ranges[:-1])]
    assert ranges[-1]["to_offset"] == how_many
    (position,) = ledger.rows("SELECT next_offset FROM ledger.source_partition")
    assert position["next_offset"] == how_many


async def still_waits(booking: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait({booking}, timeout=2.5)
    return not done


def test_past_the_share_nothing_more_is_booked_until_an_operator_resumes(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        good = [node_call(f"{n:02}") for n in range(20)]
        records = publish(broker, topic, 0, *[BAD] * 10, BAD, *good, *[BAD] * 4)
        async with worker(ledger, broker, topic) as one:
            await one.book(records[:10])
            assert one.pauser.pause is not None
            assert events(ledger) == (10, 10)
            booking = asyncio.create_task(one.book(records[10:11]))
            assert await still_waits(booking)
            assert events(ledger) == (10, 10)
            assert resume(ledger) is not None
            await booking
            # It counts anew: what led to the one pause does not lead to another.
            assert one.pauser.pause is None
            await one.book(records[11:])
            assert one.pauser.pause is None
        assert events(ledger) == (35, 15)
        assert_all_offsets_are_covered(ledger, 35)
        assert len(ledger.entries()) == 20

    run(test)


def test_within_one_delivery_no_more_than_a_transaction_is_booked_past_the_share(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        # Transactions of the worker hold 100 events.
        records = publish(broker, topic, 0, *[[1] * 50] * 8)
        async with worker(ledger, broker, topic) as one:
            booking = asyncio.create_task(one.book(records))
            await until("a pause", lambda: one.pauser.pause)
            assert await still_waits(booking)
            assert events(ledger) == (100, 100)
            # What is left is as bad, so it takes another resume for each transaction.
            for booked in (200, 300, 400):
                before = resume(ledger)
                assert before is not None
                await until("the next pause", lambda before=before: begun_after(before, one.pauser.pause))  # type: ignore[misc]
                assert events(ledger) == (booked, booked)
            await booking
        assert_all_offsets_are_covered(ledger, 8)

    run(test)


def test_a_restart_stays_paused_and_books_nothing(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, *[BAD] * 10, *(node_call(f"{n:02}") for n in range(5)))
        async with worker(ledger, broker, topic) as one:
            await one.book(records[:10])
        # Neither the restart nor another setting ends it: only the operator does.
        async with worker(ledger, broker, topic, LIMIT._replace(share=1)) as restarted:
            assert restarted.pauser.pause is not None
            booking = asyncio.create_task(restarted.book(records))
            assert await still_waits(booking)
            assert events(ledger) == (10, 10)
            assert resume(ledger) is not None
            await booking
        assert_all_offsets_are_covered(ledger, 15)
        assert len(ledger.entries()) == 5

    run(test)


def test_one_worker_pauses_every_other(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        bad = publish(broker, topic, 0, *[BAD] * 10)
        mixed = publish(broker, topic, 1, *[BAD] * 10, *(node_call(f"{n:02}") for n in range(5)))
        async with worker(ledger, broker, topic) as one, worker(ledger, broker, topic) as other:
            await other.book(mixed[:9])
            await one.book(bad)
            await until("the other to know", lambda: other.pauser.pause)
            booking = asyncio.create_task(other.book(mixed[9:10]))
            assert await still_waits(booking)
            assert events(ledger) == (19, 19)
            assert resume(ledger) is not None
            await booking
            # Every worker counts anew, also the one that had not reached the limit itself.
            assert other.pauser.pause is None
            await other.book(mixed[10:])
        assert len(ledger.entries()) == 5

    run(test)


def test_a_share_that_is_not_passed_and_too_few_events_pause_nothing(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        few = publish(broker, topic, 0, *[BAD] * 9)
        good = publish(broker, topic, 0, *(node_call(f"{n:02}") for n in range(9)))
        async with worker(ledger, broker, topic) as one:
            await one.book(few)
            # All of them again are duplicates, which are no bad events.
            await one.book(good)
            await one.book(publish(broker, topic, 0, *(node_call(f"{n:02}") for n in range(9)), *[BAD] * 9))
            assert one.pauser.pause is None
        assert events(ledger) == (36, 18)
        assert ledger.rows("SELECT * FROM ledger.metering_pause") == []

    run(test)


def test_the_pause_says_how_many_and_why_and_keeps_no_key(ledger: Ledger, broker: str, topic: str) -> None:
    secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"

    async def test() -> None:
        unpriced = [node_call(f"{n}", source=f"runner {secret}", data={"model": "nobody"}) for n in range(7)]
        async with worker(ledger, broker, topic) as one:
            await one.book(publish(broker, topic, 0, *unpriced, BAD, BAD, node_call("good")))
            paused = one.pauser.pause
        assert paused is not None
        assert (paused.events, paused.dead_letters, paused.window_seconds) == (10, 9, 300)
        assert [(cause["reason"], cause["dead_letters"]) for cause in paused.causes] == [
            ("unpriced_model", 7),
            ("malformed_json", 2),
        ]
        assert "9 of 10 events became dead letters within 300 s (unpriced_model, malformed_json)" in paused.sentence
        assert "byok dead-letters resume" in paused.sentence
        assert secret not in str(ledger.rows("SELECT * FROM ledger.metering_pause"))

    run(test)


def test_a_pause_is_written_when_the_database_is_back(
    ledger: Ledger, broker: str, topic: str, postgres: Database
) -> None:
    async def test() -> None:
        pauser = Pauser(ledger.dsn, LIMIT)
        await pauser.look()
        postgres.stop()
        noting = asyncio.create_task(pauser.note({Origin("acme", "s"): Count(10, 10)}))
        assert await still_waits(noting)
        postgres.start()  # From this thread: the server dies with the thread that started it.
        await noting
        assert pauser.pause is not None
        assert pauser.pause.causes == []

    run(test)


def test_the_database_holds_one_pause_at_a_time_and_every_pause_for_good(ledger: Ledger) -> None:
    with connect(ledger.dsn, "test", autocommit=True) as connection:
        for _ in range(2):
            pause.begin(connection, Excess(20, 15), 300)
        first = pause.in_force(connection)
        assert first is not None
        assert pause.end(connection) == first
        assert pause.end(connection) is None
        assert pause.in_force(connection) is None
        pause.begin(connection, Excess(30, 16), 300)
        for statement in ("DELETE FROM ledger.metering_pause", "UPDATE ledger.metering_pause SET events = 1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    kept = ledger.rows("SELECT events, resumed_at IS NULL AS in_force FROM ledger.metering_pause ORDER BY pause_id")
    assert [(row["events"], row["in_force"]) for row in kept] == [(20, False), (30, True)]


def of(org_id: str, event_id: str, **changes: Any) -> dict[str, Any]:
    """A node call of an organization, of a source of its own."""
    return node_call(f"{org_id}-{event_id}", source=f"runner of {org_id}", data={"org_id": org_id} | changes)


def test_one_bad_organization_pauses_nobody_and_a_fault_that_meets_all_does(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        others = [of(f"org-{n}", "good") for n in range(5)]
        conflicts = [of("bad", "same", calls=calls) for calls in range(1, 31)]
        unpriced = [of("bad", f"{n}", model="nobody") for n in range(30)]
        async with worker(ledger, broker, topic, SPARING) as one:
            await one.book(publish(broker, topic, 0, *others, conflicts, unpriced, *[BAD] * 3))
            assert events(ledger) == (68, 62)
            assert one.pauser.pause is None
            await until("the bad one to be named", lambda: Origin("bad", None) in one.pauser.failing)
            assert not any(origin.org_id in {f"org-{n}" for n in range(5)} for origin in one.pauser.failing)
            # A fault of ours.
            await one.book(publish(broker, topic, 0, *(of(f"org-{n}", "x", model="nobody") for n in range(9))))
            assert one.pauser.pause is not None

    run(test)


def test_an_organization_that_is_ignored_does_not_count_until_it_is_told_otherwise(
    ledger: Ledger, broker: str, topic: str
) -> None:
    numbers = itertools.count()

    def bad(org_id: str) -> list[Any]:
        return publish(broker, topic, 0, *(of(org_id, f"{next(numbers)}", model="nobody") for _ in range(12)))

    async def test() -> None:
        async with worker(ledger, broker, topic) as one:
            await one.book(bad("bad"))
            assert one.pauser.pause is not None
            with connect(ledger.dsn, "test", autocommit=True) as connection:
                for _ in range(2):
                    pause.ignore(connection, "bad")
                pause.end(connection)
            await until("the worker to go on", lambda: one.pauser.pause is None)
            await one.book(bad("bad"))
            assert one.pauser.pause is None
            await one.book(bad("another"))
            assert one.pauser.pause is not None
        # It outlives a restart.
        async with worker(ledger, broker, topic) as restarted:
            resume(ledger)
            await until("the worker to go on", lambda: restarted.pauser.pause is None)
            await restarted.book(bad("bad"))
            assert restarted.pauser.pause is None
            with connect(ledger.dsn, "test", autocommit=True) as connection:
                assert [each.org_id for each in pause.ignored(connection)] == ["bad"]
                assert pause.count_again(connection, "bad")
                assert not pause.count_again(connection, "bad")
                assert pause.ignored(connection) == []
            await restarted.pauser.look()
            await restarted.book(bad("bad"))
            assert restarted.pauser.pause is not None
        (kept,) = ledger.rows("SELECT * FROM ledger.ignored_organization")
        assert kept["counted_at"] > kept["ignored_at"]

    run(test)


def test_the_commands_tell_who_is_worst_and_leave_them_out_of_the_count(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def book() -> None:
        async with worker(ledger, broker, topic) as one:
            await one.book(
                publish(broker, topic, 0, *(of("bad", f"{n}", model="nobody") for n in range(12)), of("good", "1"))
            )

    run(book)
    settings = {"BYOK_LEDGER_DSN": ledger.dsn}

    def said(*arguments: str) -> str:
        done = typed("dead-letters", *arguments, settings=settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = json.loads(said("status", "--json"))
    assert before["pause"]["dead_letters"] == 12
    assert before["ignored"] == []
    assert before["last_hour"] == [{"org_id": "bad", "reason": "unpriced_model", "dead_letters": 12}]
    assert json.loads(said("resume", "--ignore-org", "bad", "--dry-run", "--json"))["resumed"] is False
    assert json.loads(said("status", "--json"))["ignored"] == []
    shown = said("resume", "--ignore-org", "bad", "--yes")
    assert "Metering goes on." in shown
    assert "Do not count towards a pause: bad" in shown
    after = json.loads(said("status", "--json"))
    assert (after["pause"], [each["org_id"] for each in after["ignored"]]) == (None, ["bad"])
    assert "Does not count towards a pause since" in said("status")
    assert said("resume", "--count-org", "bad", "--yes") == "Metering is not paused.\n"
    assert json.loads(said("status", "--json"))["ignored"] == []
    assert typed("dead-letters", "resume", "--ignore-org", "*", "--yes", settings=settings).returncode == 2
