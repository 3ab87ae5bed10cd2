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
from tests.integration.metering.workers import NOW, cards, payloads, plan
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
