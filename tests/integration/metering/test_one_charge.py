"""Who books one identity, or one revision, at the same instant as another meets it in the primary key (I2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from services.proof.verify import verify
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, plan, publish, rerate
from tests.patience import PATIENCE_SECONDS, wait_for

_EVENTS = 3
_BEHIND_ANOTHERS_ROW, _BEHIND_THE_TEST = "transactionid", "relation"
_ANOTHER_EVENT_UNDER_ITS_ID = """
INSERT INTO ledger.entry SELECT (jsonb_populate_record(e, '{"event_id": "another"}')).*
FROM ledger.entry e WHERE kind = %s
"""


@contextmanager
def _held_after_their_inserts(ledger: Ledger) -> Iterator[Callable[[str], None]]:
    """Bookings and re-ratings come as far as their totals, which they write last; yields what waits for one to wait."""

    def waits(lock: str) -> None:
        query = "SELECT FROM pg_locks WHERE locktype = %s AND NOT granted"
        wait_for(f"somebody to wait for a lock ({lock})", partial(ledger.rows, query, lock))

    with psycopg.connect(ledger.owner_dsn) as holding:
        holding.execute("LOCK TABLE ledger.metric_total IN SHARE MODE")
        yield waits


def _differences(ledger: Ledger) -> list[object]:
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        return [*verify(connection).first]


@pytest.fixture
def moved(ledger: Ledger, broker: str, topic: str) -> Ledger:
    """With some charges, and a change that moves them and is not worked off yet."""

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        await worker.book(publish(broker, topic, 0, *(node_call(str(number)) for number in range(_EVENTS))))
        await worker.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    return ledger


@pytest.mark.parametrize(
    ("calls", "became"),
    [pytest.param(1, (0, 1, 0), id="the same payload"), pytest.param(2, (0, 0, 1), id="another payload")],
)
def test_of_two_transactions_that_insert_one_identity_one_charges(
    calls: int, became: tuple[int, int, int], ledger: Ledger, broker: str, topic: str
) -> None:
    async def book() -> None:
        one, other = (Worker(ledger.dsn, broker, topic) for _ in range(2))
        for each in (one, other):
            await each.learn(*cards())
        left = publish(broker, topic, 0, node_call("twin"))
        right = publish(broker, topic, 1, node_call("twin", data={"calls": calls}))
        with _held_after_their_inserts(ledger) as waits:
            first = asyncio.create_task(one.book(left))
            await asyncio.to_thread(waits, _BEHIND_THE_TEST)
            second = asyncio.create_task(other.book(right))
            await asyncio.to_thread(waits, _BEHIND_ANOTHERS_ROW)
        await asyncio.gather(first, second)
        assert [booked[:3] for booked in (*one.booked, *other.booked)] == [(1, 0, 0), became]
        for each in (one, other):
            await each.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    (charge,) = ledger.entries()
    assert (charge["event_id"], charge["charged_mc"]) == ("twin", 20_000_000)
    letters = ledger.rows("SELECT event_id, reason FROM ledger.dead_letter")
    assert letters == [{"event_id": "twin", "reason": "identity_conflict"}] * became[2]
    assert _differences(ledger) == []


def test_of_two_reraters_that_make_one_revision_one_is_refused_and_then_finds_it_made(moved: Ledger) -> None:
    with ThreadPoolExecutor(2) as threads:
        with _held_after_their_inserts(moved) as waits:
            first = threads.submit(rerate, moved.dsn)
            waits(_BEHIND_THE_TEST)
            second = threads.submit(rerate, moved.dsn)
            waits(_BEHIND_ANOTHERS_ROW)
        first.result(PATIENCE_SECONDS)
        with pytest.raises(psycopg.errors.UniqueViolation) as refused:
            second.result(PATIENCE_SECONDS)
    assert refused.value.diag.constraint_name == "entry_pkey"
    rerate(moved.dsn)
    made = [(entry["event_id"], entry["revision"], entry["kind"]) for entry in moved.entries()]
    history = [(0, "charge"), (1, "reversal"), (1, "correction")]
    assert made == [(str(number), *each) for number in range(_EVENTS) for each in history]
    assert _differences(moved) == []


@pytest.mark.parametrize("kind", ["charge", "reversal", "correction"])
def test_the_database_refuses_a_second_row_of_one_id_whatever_event_it_names(kind: str, moved: Ledger) -> None:
    rerate(moved.dsn)
    with connect(moved.dsn, "test", autocommit=True) as worker, pytest.raises(psycopg.errors.UniqueViolation) as error:
        worker.execute(_ANOTHER_EVENT_UNDER_ITS_ID, (kind,))
    assert error.value.diag.constraint_name == "entry_pkey"
