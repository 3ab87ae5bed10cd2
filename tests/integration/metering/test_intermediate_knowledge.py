"""What was priced with a state of the registry that came and went between two looks of the re-rater."""

from __future__ import annotations

import asyncio

import pytest

from schemas.registry_changes import RegistryChange
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, plan, publish, rerate
from tests.patience import PATIENCE_SECONDS

_LATER = "2026-11-01T00:00:00Z"
_KNOWN = [plan(3, "pro"), key(4, (LONG_AGO, None))]


@pytest.mark.parametrize(
    ("passing", "last"),
    [
        pytest.param([plan(5, "free")], plan(6, "pro"), id="a plan that was taken back"),
        pytest.param([key(5, (LONG_AGO, _LATER))], key(6, (LONG_AGO, None)), id="a key's end that was taken back"),
        pytest.param([plan(5, "free"), plan(6, "enterprise")], plan(7, "pro"), id="two plans that were taken back"),
    ],
)
def test_an_entry_priced_with_a_state_that_passed_is_put_right(
    passing: list[RegistryChange], last: RegistryChange, ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), *_KNOWN)
        rerate(ledger.dsn)
        for change in passing:
            await worker.learn(change)
            await worker.book(publish(broker, topic, 0, node_call(f"known-{change.seq}")))
        # The re-rater looks only now, when the registry says again what it said when it looked before.
        await worker.learn(last)
        rerate(ledger.dsn)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    entries = ledger.entries()
    for number in {entry["event_id"] for entry in entries}:
        revisions = [entry for entry in entries if entry["event_id"] == number]
        assert sum(entry["charged_mc"] for entry in revisions) == 1_000_000
        assert revisions[-1]["credential_id"] == "key-of-ada"
