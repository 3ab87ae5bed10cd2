"""Records that the topic's retention deletes while `byok verify --replay` reads them: it says so."""

from __future__ import annotations

import asyncio

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from schemas.topics import USAGE_EVENTS
from services.proof.replay.topic import TopicReader
from services.runtime.command_failed import CommandFailed
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.faults.rig import Rig
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

TOPIC = "deleted-while-replayed"
RECORDS, DELETED = 5, 3


@pytest.fixture
def bootstrap(rig: Rig) -> str:
    """A broker with a few records in the first partition of a topic that is this test's alone."""
    bootstrap = rig.kafka.bootstrap
    create_topics(KafkaAccess(bootstrap), [USAGE_EVENTS._replace(name=TOPIC)], replication_factor=1)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for _ in range(RECORDS):
        producer.send(TOPIC, b"{}", partition=0).get(timeout=PATIENCE_SECONDS)
    producer.close()
    return bootstrap


def _delete(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_records({TopicPartition(TOPIC, 0): DELETED})
    finally:
        admin.close()


async def _read(bootstrap: str, *, delete: bool) -> int:
    read = 0
    async with TopicReader(KafkaAccess(bootstrap), TOPIC, {0: RECORDS}, silent_seconds=20) as reader:
        if delete:
            await asyncio.to_thread(_delete, bootstrap)
        async for records in reader.records():
            read += len(records)
    return read


def test_records_deleted_before_they_are_read_are_no_silent_broker(bootstrap: str) -> None:
    assert asyncio.run(_read(bootstrap, delete=False)) == RECORDS
    with pytest.raises(CommandFailed, match=r"retention deleted records .* partition 0 no longer holds offset 0"):
        asyncio.run(_read(bootstrap, delete=True))
    assert asyncio.run(_read(bootstrap, delete=False)) == RECORDS - DELETED
