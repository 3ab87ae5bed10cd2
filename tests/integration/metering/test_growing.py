"""docs/how-to/grow.md, as it stands there: the entries go over to hash partitions while workers book."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from services.local.children import foreign_environment
from services.local.embedded.account import executables_for
from services.proof.verify import verify
from services.runtime.database import connect
from tests.integration.metering.feed import feed, place
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, plan, publish, rerate
from tests.patience import PATIENCE_SECONDS

_PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "grow.md"
MAKE, FOLLOW, COPY, SWAP = re.findall(r"```sql\n(.+?)```", _PAGE.read_text(), re.DOTALL)
BEFORE, MEANWHILE = 40, 200


def _psql(ledger: Ledger, step: str) -> None:
    """As an operator runs it: statement by statement."""
    done = subprocess.run(
        [str(executables_for(None) / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", ledger.owner_dsn],
        input=step,
        env=foreign_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_entries_go_over_to_partitions_while_they_are_booked(ledger: Ledger, broker: str, topic: str) -> None:
    half, over = threading.Event(), threading.Event()

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        await worker.book(publish(broker, topic, 0, *(node_call(f"a{number}") for number in range(BEFORE))))
        # Reversals and corrections, which name others.
        await worker.learn(plan(3, "pro"), key(4, (LONG_AGO, None)))
        rerate(ledger.dsn)
        for record in publish(broker, topic, 1, *(node_call(f"b{number}") for number in range(MEANWHILE))):
            await worker.book([record])
            half.set()
        await asyncio.to_thread(over.wait, PATIENCE_SECONDS)
        # What comes again, what conflicts, and what is corrected, on the table as it is now.
        again = [node_call("a1"), node_call("a2", data={"calls": 2}), node_call("new")]
        await worker.book(publish(broker, topic, 0, *again))
        await worker.learn(key(5, (LONG_AGO, "2026-11-05T00:00:00Z")))
        rerate(ledger.dsn)
        await worker.stop()

    booking = threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS)))
    booking.start()
    try:
        assert half.wait(PATIENCE_SECONDS)
        for step in (MAKE, FOLLOW, COPY, SWAP):
            _psql(ledger, step)
    finally:
        over.set()
        booking.join()

    (found,) = ledger.rows(
        """SELECT count(DISTINCT tableoid) AS tables, count(*) FILTER (WHERE kind = 'charge') AS charges,
           count(*) FILTER (WHERE kind = 'correction') AS corrections FROM ledger.entry"""
    )
    assert found == {
        "tables": 1,
        "charges": BEFORE + MEANWHILE + 1,
        # Those of the beginning, and then all, for the key went.
        "corrections": 2 * BEFORE + MEANWHILE + 1,
    }
    assert ledger.rows("SELECT count(*) AS n FROM ledger.entries") == ledger.rows(
        "SELECT count(*) AS n FROM ledger.entry"
    )
    place(ledger)
    placed = [each.entry_id for each in feed(ledger)]
    assert sorted(placed) == sorted(entry["entry_id"] for entry in ledger.entries())
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        assert verify(connection).first == []
    for table in ("entry", "entry_hash_3"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            ledger.execute(f"UPDATE ledger.{table} SET charged_mc = 0, saved_mc = list_mc")
    with connect(ledger.dsn, "test", autocommit=True) as service, pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("DELETE FROM ledger.entry_hash_3")


@pytest.mark.slow
def test_what_is_missing_keeps_the_old_table_in_its_place(ledger: Ledger, broker: str, topic: str) -> None:
    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        await worker.book(publish(broker, topic, 0, node_call("a")))
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    _psql(ledger, MAKE)
    _psql(ledger, FOLLOW)
    with pytest.raises(AssertionError, match="entries are missing"):
        _psql(ledger, SWAP)
    _psql(ledger, COPY)
    _psql(ledger, SWAP)
    assert ledger.rows("SELECT count(*) AS n FROM ledger.entry") == [{"n": 1}]
