"""A ledger whose entries have ids of another rule is refused: on it a redelivery would be a second event."""

from __future__ import annotations

import asyncio

import pytest

from services.books.migrations import upgrade
from services.books.schema import require_ledger
from services.runtime.schema_version import SchemaMismatch
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, node_call, publish
from tests.patience import PATIENCE_SECONDS

OF_BEFORE = "1f78db1d-2788-8039-af6d-a2e2c0ca2c73"


async def book_one(ledger: Ledger, broker: str, topic: str) -> None:
    worker = Worker(ledger.dsn, broker, topic)
    try:
        await worker.learn(*cards())
        await worker.book(publish(broker, topic, 0, node_call("a")))
    finally:
        await worker.stop()


def test_it_is_refused_and_left_as_it_is(ledger: Ledger, broker: str, topic: str) -> None:
    require_ledger(ledger.dsn, "test")
    asyncio.run(asyncio.wait_for(book_one(ledger, broker, topic), PATIENCE_SECONDS))
    require_ledger(ledger.dsn, "test")
    upgrade(ledger.owner_dsn)
    ledger.execute(
        "ALTER TABLE ledger.entry DISABLE TRIGGER append_only;"
        f"UPDATE ledger.entry SET entry_id = '{OF_BEFORE}'; ALTER TABLE ledger.entry ENABLE TRIGGER append_only"
    )
    with pytest.raises(SchemaMismatch, match=f"entry {OF_BEFORE} of the ledger has not the id"):
        require_ledger(ledger.dsn, "test")
    with pytest.raises(SchemaMismatch, match="no later release can go on with"):
        upgrade(ledger.owner_dsn)
    assert [str(entry["entry_id"]) for entry in ledger.entries()] == [OF_BEFORE]
