"""What a follower makes of the registry's topic when it begins with it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from schemas.registry_changes import RegistryChange
from schemas.topics import REGISTRY_CHANGES
from services.domain.directory import Directory
from services.domain.scope import Plan
from services.metering.registry_follower import RegistryFollower
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, NOW, Worker, cards, key, payloads, plan, rerate
from tests.integration.real_parts import running_broker

_EARLY, _LATE, _OTHER = plan(5, "free"), plan(9, "enterprise"), plan(10, "pro", org_id="other")


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([_EARLY, _LATE, _OTHER], id="as it was sent"),
        pytest.param([_EARLY, _LATE, _OTHER, _EARLY, _LATE, _OTHER], id="sent again"),
        # Compaction works on all but the newest records: the older part may have lost what the newer part has again.
        pytest.param([_OTHER, _EARLY, _LATE, _OTHER], id="sent again, and compacted in part"),
        pytest.param([_OTHER, _LATE], id="sent again, and compacted otherwise"),
    ],
)
def test_the_newest_change_of_each_key_counts_wherever_it_stands(
    records: list[RegistryChange], ledger: Ledger, tmp_path: Path
) -> None:
    async def test(broker: str) -> None:
        with closing(KafkaProducer(bootstrap_servers=broker, acks="all")) as producer:
            changes = [*cards(), *records]
            for change, payload in zip(changes, payloads(changes), strict=True):
                producer.send(REGISTRY_CHANGES.name, key=change.key.encode(), value=payload, partition=0).get(20)
        directory = Directory()
        follower = RegistryFollower(ledger.dsn, broker, directory)
        await follower.catch_up()
        await follower.stop()
        assert directory.seq == _OTHER.seq
        assert (directory.plan_at("acme", NOW), directory.plan_at("other", NOW)) == (Plan.ENTERPRISE, Plan.PRO)

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), 60))


def test_a_hole_that_is_filled_is_known_and_worked_off_again(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        filling, other = Worker(ledger.dsn, broker, topic), Worker(ledger.dsn, broker, topic)
        log = [*cards(), plan(3, "pro"), key(4, (LONG_AGO, None)), plan(5, "pro", org_id="other")]
        for worker in (filling, other):
            await worker.learn(*cards(), key(4, (LONG_AGO, None)))
            await worker.learn(plan(5, "pro", org_id="other"))
        rerate(ledger.dsn)
        assert _rerated(ledger) == 5
        await filling.learn(*log)
        assert _rerated(ledger) == 2
        # A worker that learns of it later may have priced without it after others had worked it off.
        rerate(ledger.dsn)
        assert _rerated(ledger) == 5
        await other.learn(*log)
        assert _rerated(ledger) == 2
        for worker in (filling, other):
            assert (worker.directory.seq, worker.directory.plan_at("acme", NOW)) == (5, Plan.PRO)
            await worker.stop()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_worker_that_starts_with_a_hole_knows_what_the_topic_holds_of_it(ledger: Ledger, tmp_path: Path) -> None:
    late = plan(3, "pro")

    async def test(broker: str) -> None:
        await RegistryFollower(ledger.dsn, broker, Directory()).take_in(payloads([*cards(), _OTHER]))
        with closing(KafkaProducer(bootstrap_servers=broker, acks="all")) as producer:
            producer.send(REGISTRY_CHANGES.name, value=payloads([late])[0], partition=0).get(20)
        follower = RegistryFollower(ledger.dsn, broker, Directory())
        await follower.catch_up()
        await follower.stop()
        assert (follower.directory.seq, follower.directory.plan_at("acme", NOW)) == (_OTHER.seq, Plan.PRO)

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), 60))


def test_an_earlier_state_that_was_compacted_away_moves_nothing(ledger: Ledger, broker: str) -> None:
    async def test() -> None:
        follower = RegistryFollower(ledger.dsn, broker, Directory())
        await follower.take_in(payloads([*cards(), _LATE, _OTHER]))
        rerate(ledger.dsn)
        await follower.take_in(payloads([_EARLY, _LATE]))
        assert follower.directory.plan_at("acme", NOW) is Plan.ENTERPRISE
        assert _rerated(ledger) == _OTHER.seq

    asyncio.run(asyncio.wait_for(test(), 60))


def _rerated(ledger: Ledger) -> int:
    return int(ledger.rows("SELECT rerated_seq FROM ledger.fence")[0]["rerated_seq"])
