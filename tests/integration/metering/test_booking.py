"""Records become entries once each: redelivered, skipped over, taken by another worker, or while something is away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from schemas.registry_changes import RateCardChange
from services.books.locks import FENCE
from services.books.registry_log import RegistryForkedError
from services.messages.registry_changes import UnreadableChangeError
from services.metering.dead_letters import pause
from services.metering.dead_letters.share import Excess
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, NOW, Worker, cards, key, node_call, plan, publish, rerate
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS, wait_for


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


@asynccontextmanager
async def worker(ledger: Ledger, broker: str, topic: str) -> AsyncIterator[Worker]:
    running = Worker(ledger.dsn, broker, topic)
    await running.learn(*cards())
    try:
        yield running
    finally:
        await running.stop()


def test_what_is_delivered_again_is_left_alone(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, [node_call("a"), node_call("b")], node_call("c"))
        async with worker(ledger, broker, topic) as one:
            await one.book(records)
            await one.book(records)
            await one.book(records[1:])
        async with worker(ledger, broker, topic) as restarted:
            await restarted.book(records)
        assert [entry["event_id"] for entry in ledger.entries()] == ["a", "b", "c"]
        assert sum(row["events"] for row in ledger.rows("SELECT events FROM ledger.covered_range")) == 3

    run(test)


def test_records_that_the_stream_skips_are_fetched_from_the_log(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(name) for name in "abcdef"))
        async with worker(ledger, broker, topic) as one:
            await one.book(records[:1])
            await one.book([records[2], records[5]])
        assert [entry["event_id"] for entry in ledger.entries()] == list("abcdef")
        ranges = ledger.rows("SELECT from_offset, to_offset FROM ledger.covered_range ORDER BY 1")
        assert all(one["to_offset"] == next_["from_offset"] for one, next_ in itertools.pairwise(ranges))

    run(test)


def test_two_workers_on_one_partition_book_each_record_once(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(f"{number:02}") for number in range(20)))
        async with worker(ledger, broker, topic) as one, worker(ledger, broker, topic) as other:
            await one.book(records[:5])
            # The other one thinks that the partition is its own and begins with what the first has booked already.
            await other.book(records[:8])
            await asyncio.gather(one.book(records[5:]), other.book(records[8:]))
        assert len(ledger.entries()) == 20
        (row,) = ledger.rows("SELECT sum(events) AS events, sum(recorded) AS recorded FROM ledger.covered_range")
        assert (row["events"], row["recorded"]) == (20, 20)

    run(test)


def test_the_same_event_in_two_partitions_is_charged_once(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        left, right = (
            publish(broker, topic, 0, node_call("twin")),
            publish(broker, topic, 1, node_call("twin"), node_call("other")),
        )
        async with worker(ledger, broker, topic) as one, worker(ledger, broker, topic) as other:
            await asyncio.gather(one.book(left), other.book(right))
            assert sum(booked.duplicates for booked in (*one.booked, *other.booked)) == 1
        assert [entry["event_id"] for entry in ledger.entries()] == ["other", "twin"]

    run(test)


def test_of_two_payloads_of_one_identity_that_come_at_once_one_is_charged_and_the_other_a_conflict(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        ids = [f"{number:02}" for number in range(40)]
        left = publish(broker, topic, 0, *(node_call(each) for each in ids))
        right = publish(broker, topic, 1, *(node_call(each, data={"calls": 2}) for each in reversed(ids)))
        async with worker(ledger, broker, topic) as one, worker(ledger, broker, topic) as other:
            # One by one, so that they meet again and again.
            for mine, yours in zip(left, right, strict=True):
                await asyncio.gather(one.book([mine]), other.book([yours]))
            told = [*one.booked, *other.booked]
        assert [sum(counts) for counts in zip(*(each[:3] for each in told), strict=True)] == [40, 0, 40]
        assert [entry["event_id"] for entry in ledger.entries()] == ids
        letters = ledger.rows("SELECT event_id, reason FROM ledger.dead_letter ORDER BY event_id")
        assert [tuple(letter.values()) for letter in letters] == [(each, "identity_conflict") for each in ids]

    run(test)


@pytest.mark.parametrize("calls", [[slice(1, None)], [slice(1, 101), slice(101, 201), slice(201, None)]])
def test_what_is_priced_ahead_is_priced_again_when_more_is_known_and_booked_in_order(
    calls: list[slice], ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        # Three transactions: the last has the first one's events again, one of them with another payload.
        numbers = [*range(200), *range(59)]
        events = [node_call(f"{number:03}") for number in numbers]
        records = publish(broker, topic, 0, *events, node_call("059", data={"calls": 2}))
        async with worker(ledger, broker, topic) as one:
            await one.book.positions([0])
            await one.book(records[:1])
            with psycopg.connect(ledger.owner_dsn, autocommit=True) as connection:
                connection.execute("SELECT pg_advisory_lock(%s)", (FENCE,))
                booking = asyncio.gather(*(one.book(records[part]) for part in calls))
                waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                held_up = partial(connection.execute, waiting)
                await asyncio.to_thread(wait_for, "it stands at the fence", lambda: held_up().fetchone() != (0,))
                await one.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
                connection.execute("SELECT pg_advisory_unlock(%s)", (FENCE,))
                await booking
            assert [booked[:3] for booked in one.booked] == [(1, 0, 0), (100, 0, 0), (99, 1, 0), (0, 58, 1)]
        known = [(entry["event_id"], entry["registry_seq"]) for entry in ledger.entries()]
        assert known == [(f"{number:03}", 2 if number <= 100 else 4) for number in range(200)]

    run(test)


def test_a_batch_priced_with_less_than_the_fence_asks_for_is_priced_again(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, node_call("a"))
        async with worker(ledger, broker, topic) as ahead, worker(ledger, broker, topic) as behind:
            await ahead.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
            await asyncio.to_thread(rerate, ledger.dsn)
            booking = asyncio.create_task(behind.book(records))
            done, _ = await asyncio.wait({booking}, timeout=0.5)
            assert not done, "booked behind the fence"
            await behind.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
            await booking
        (entry,) = ledger.entries()
        assert (entry["registry_seq"], entry["reason"], entry["charged_mc"]) == (4, "personal_key", 1_000_000)

    run(test)


def test_an_event_whose_price_no_entry_holds_is_a_dead_letter_and_its_neighbours_are_booked(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        body = {**cards()[1].body, "usd_per_credit": "0.000001"}  # type: ignore[union-attr]
        body["models"] = {"dear": {"model": _line("1000000")}, "anthropic": {"claude-sonnet-4-6": _line("1")}}
        # No registry publishes such a card now; one that is in the log already must not stop anything.
        dear = RateCardChange(seq=3, changed_at=NOW, card="dear", effective_from=LONG_AGO, body=body)
        tokens = {"agent_id": "a", "provider": "dear", "model": "model", "input_tokens": 10**10, "output_tokens": 0}
        too_much = node_call("b", type="usage.token_usage.v1", time="2026-05-02T00:00:00Z", data=tokens)
        records = publish(broker, topic, 0, [node_call("a"), too_much, node_call("c")], node_call("d"))
        async with worker(ledger, broker, topic) as one:
            await one.learn(dear)
            await one.book(records)
            assert [booked[:3] for booked in one.booked] == [(3, 0, 1)]
        assert [entry["event_id"] for entry in ledger.entries()] == ["a", "c", "d"]
        (letter,) = ledger.rows("SELECT * FROM ledger.dead_letter")
        assert (letter["reason"], letter["event_id"], letter["source_index"]) == ("unpriced_model", "b", 1)

    run(test)


_REFUSING = """
CREATE FUNCTION ledger.refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'out of range' USING ERRCODE = 'numeric_value_out_of_range'; END $$;
CREATE TRIGGER refuse_row BEFORE INSERT ON ledger.{table} FOR EACH ROW WHEN ({condition})
  EXECUTE FUNCTION ledger.refuse_row()
"""


@pytest.mark.parametrize(
    ("table", "condition", "poison", "kept"),
    [
        ("entry", "NEW.event_id = 'b'", {}, "b"),
        # What is shared breaks only in the sum, and by whoever adds to it.
        (
            "metric_total",
            "NEW.labels ->> 'provider' = 'google'",
            {"provider": "google", "model": "gemini-2.5-pro"},
            "b",
        ),
        # Not even its dead letter can be stored: what is left is its place.
        ("dead_letter", "NEW.event_id = 'b'", {"model": "unheard-of"}, None),
    ],
)
def test_an_event_that_breaks_any_statement_is_a_dead_letter_and_its_neighbours_are_booked(
    table: str, condition: str, poison: dict[str, str], kept: str | None, ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        ledger.execute(_REFUSING.format(table=table, condition=condition))
        events = [node_call("a"), node_call("b", data=poison), node_call("c")]
        records = publish(broker, topic, 0, events, node_call("d"), b"junk")
        async with worker(ledger, broker, topic) as one:
            await one.book(records)
            assert [booked[:3] for booked in one.booked] == [(3, 0, 2)]
        assert [entry["event_id"] for entry in ledger.entries()] == ["a", "c", "d"]
        letters = ledger.rows("SELECT * FROM ledger.dead_letter ORDER BY source_offset")
        assert [letter["reason"] for letter in letters] == ["invalid_event", "malformed_json"]
        assert letters[0]["detail"] == "the event cannot be stored (SQLSTATE 22003)"
        assert (letters[0]["event_id"], letters[0]["source_index"]) == (kept, 1)
        assert bool(letters[0]["payload"]) == (kept is not None)

    run(test)


def _line(usd: str) -> dict[str, str]:
    prices = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
    return {"tier": "standard", **dict.fromkeys(prices, usd)}


def test_a_database_that_goes_away_and_comes_back_is_waited_for(
    ledger: Ledger, broker: str, topic: str, postgres: Database
) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(f"{number:02}") for number in range(30)))
        async with worker(ledger, broker, topic) as one:
            for record in records[:10]:
                await one.book([record])
                postgres.disconnect_all("ledger_service")
            postgres.stop()
            booking = asyncio.create_task(one.book(records[10:]))
            done, _ = await asyncio.wait({booking}, timeout=0.5)
            assert not done
            postgres.start()  # From this thread: the server dies with the thread that started it.
            await booking
        assert len(ledger.entries()) == 30

    run(test)


def test_the_same_seq_with_another_content_stops_everything(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        async with worker(ledger, broker, topic) as one:
            await one.learn(plan(3, "pro"))
            with pytest.raises(RegistryForkedError, match="3"):
                await one.learn(plan(3, "enterprise"))

    run(test)


def test_a_change_that_cannot_be_read_stops_everything(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        async with worker(ledger, broker, topic) as one:
            with pytest.raises(UnreadableChangeError, match="kind"):
                await one.follower.take_in([b'{"seq": 3, "kind": "coupon"}'])
            assert one.directory.seq == 2

    run(test)


def test_entries_ranges_and_registry_changes_cannot_be_changed_even_by_their_owner(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        async with worker(ledger, broker, topic) as one:
            await one.book(publish(broker, topic, 0, node_call("a"), b"junk"))

    run(test)
    statements = [
        statement.format(table=f"ledger.{table}")
        for table in ("entry", "covered_range", "registry_change", "dead_letter")
        for statement in ("UPDATE {table} SET {table}=NULL", "DELETE FROM {table}", "TRUNCATE {table} CASCADE")
    ]
    statements = [s for s in statements if not s.startswith("UPDATE")] + [
        "UPDATE ledger.entry SET list_mc = 0, saved_mc = -charged_mc",
        "UPDATE ledger.covered_range SET events = 0",
        "UPDATE ledger.registry_change SET payload = ''",
        "UPDATE ledger.dead_letter SET payload = ''",
    ]
    for statement in statements:
        with pytest.raises(Exception, match="append-only"):
            ledger.rows(statement)
    with pytest.raises(Exception, match="list_is_charged_plus_saved"):
        ledger.rows(_COPY_OF_AN_ENTRY)


_COPY_OF_AN_ENTRY = """
INSERT INTO ledger.entry SELECT (jsonb_populate_record(e, '{
  "entry_id": "00000000-0000-8000-8000-000000000000", "event_id": "b", "saved_mc": 1}'::jsonb)).* FROM ledger.entry e
"""


@pytest.mark.parametrize("booked_elsewhere", [5, 9], ids=["in part", "in whole"])
def test_a_chunk_that_waits_while_its_partition_is_away_and_back_books_only_what_is_left(
    booked_elsewhere: int, ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        records = publish(broker, topic, 0, *(node_call(f"{number}") for number in range(9)), b"junk")
        waiting, other = Worker(ledger.dsn, broker, topic), Worker(ledger.dsn, broker, topic)
        for worker in (waiting, other):
            await worker.learn(*cards())
        await waiting.book(records[:1])
        with psycopg.connect(ledger.owner_dsn, autocommit=True) as connection:
            pause.begin(connection, Excess(10, 9), window_seconds=300)
            await waiting.pauser.look()
            held = asyncio.create_task(waiting.book(records[1:]))
            for _ in range(50):
                # Nothing else is waited for, so that by then it stands before the pause.
                await asyncio.sleep(0)
            waiting.book.forget_positions()
            pause.end(connection)
        await other.book(records[1 : 1 + booked_elsewhere])
        await waiting.book.positions([0])
        await waiting.pauser.look()
        await held
        for worker in (waiting, other):
            await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    (row,) = ledger.rows(
        """SELECT sum(events) AS events, sum(recorded) AS recorded, sum(duplicates) AS duplicates,
           sum(to_offset - from_offset) AS offsets FROM ledger.covered_range"""
    )
    assert row == {"events": 10, "recorded": 9, "duplicates": 0, "offsets": 10}


def test_a_transaction_is_bounded_in_bytes(ledger: Ledger, broker: str, topic: str) -> None:
    """What is refused is kept with its bytes, and written while others wait."""
    records, size = 12, 900_000

    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        await worker.book(publish(broker, topic, 0, *[b"x" * size] * records))
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    ranges = ledger.rows("SELECT dead_letters FROM ledger.covered_range")
    assert sum(row["dead_letters"] for row in ranges) == records
    assert max(row["dead_letters"] for row in ranges) * size < 5_000_000
