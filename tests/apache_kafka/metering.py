"""Sending usage to Apache Kafka and looking at what became of it, for tests that start and stop the workers."""

from __future__ import annotations

import json
import uuid
import zlib
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests.e2e.running import node_call
from tests.faults.rig import Rig, Service
from tests.patience import PATIENCE_SECONDS, wait_for

USAGE = "byok.usage-events"
GROUP = "byok-metering"
UNTOUCHED = 11
"""A partition that nobody writes to but the one test that is about just that."""
ROTTEN = 9
"""The partition in whose file a test damages bytes; what others write to it is small."""


class Metering:
    """One organization of the test's own, a producer, and the ledger."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.org_id = f"org-{uuid.uuid4().hex[:12]}"
        self.producer = KafkaProducer(bootstrap_servers=rig.kafka.bootstrap.split(","), acks="all")
        self._number = 0
        self._partition = zlib.crc32(self.org_id.encode()) % min(ROTTEN, UNTOUCHED)

    def close(self) -> None:
        """Stop every worker, let go of the broker, and let everything be reached again."""
        for worker in self.rig.workers:
            worker.stop()
        self.rig.restore()
        self.producer.close(timeout=1)

    def start(self, name: str = "worker-1") -> Service:
        """A worker that is ready."""
        worker = self.rig.worker(name)
        worker.start()
        worker.wait_ready()
        return worker

    def event(self) -> dict[str, Any]:
        """The organization's next node call, numbered."""
        self._number += 1
        return node_call(self.org_id, id=f"{self._number:05}")

    def send(self, how_many: int, partition: int | None = None) -> int:
        """So many events, each a record of its own, to one partition; the offset of the last one."""
        futures = [self._send(self.producer, partition) for _ in range(how_many)]
        return max(int(future.get(PATIENCE_SECONDS).offset) for future in futures)

    def transaction(self, producer: KafkaProducer, how_many: int, partition: int, *, commit: bool) -> list[str]:
        """So many events in a transaction; their ids."""
        first = self._number + 1
        producer.begin_transaction()
        for _ in range(how_many):
            self._send(producer, partition)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
        return [f"{number:05}" for number in range(first, self._number + 1)]

    def transactional(self) -> KafkaProducer:
        """A producer that is ready for transactions."""
        producer = KafkaProducer(bootstrap_servers=self.rig.kafka.bootstrap, transactional_id=self.org_id)
        producer.init_transactions()
        return producer

    def _send(self, producer: KafkaProducer, partition: int | None) -> Any:
        value = json.dumps(self.event()).encode()
        partition = self._partition if partition is None else partition
        return producer.send(USAGE, value=value, key=self.org_id.encode(), partition=partition)

    def charges(self, database: str = "ledger") -> list[str]:
        """The ids of the organization's charges, in order, as often as they were charged."""
        statement = "SELECT event_id FROM ledger.entry WHERE org_id = %s AND kind = 'charge' ORDER BY event_id"
        rows = self.rig.rows(statement, self.org_id, database=database)
        return [row["event_id"] for row in rows]

    def sent_ids(self) -> list[str]:
        """The ids of every event made so far."""
        return [f"{number:05}" for number in range(1, self._number + 1)]

    def wait_charged(self, ids: list[str], database: str = "ledger") -> None:
        """Wait until at least so many are charged, and insist that it is these, each once."""
        wait_for(f"{len(ids)} charges", lambda: len(self.charges(database)) >= len(ids))
        assert self.charges(database) == ids

    def assert_conserved(self, partition: int | None = None) -> None:
        """Covered ranges meet end to end in every partition (or one), and each recorded event has its charge."""
        for row in self.rig.rows("SELECT * FROM ledger.source_partition WHERE topic = %s", USAGE):
            if partition is not None and row["partition"] != partition:
                continue
            at = row["origin_offset"]
            ranges = self.rig.rows(
                "SELECT * FROM ledger.covered_range WHERE source_partition_id = %s ORDER BY from_offset",
                row["source_partition_id"],
            )
            for covered in ranges:
                assert covered["from_offset"] == at, (row, covered)
                at = covered["to_offset"]
            assert at == row["next_offset"]
            charges = self.rig.rows(
                "SELECT count(*) AS n FROM ledger.entry WHERE source_partition_id = %s", row["source_partition_id"]
            )
            assert charges[0]["n"] == sum(covered["recorded"] for covered in ranges)

    def partitions_of(self, worker: Service) -> list[int]:
        """The partitions that a worker has, by its own metrics."""
        return sorted(int(partition) for partition, _topic in worker.samples("byok_consumer_lag_events"))

    def booked_offset(self, partition: int) -> int:
        """How far the ledger has booked a partition; 0 where nothing is."""
        rows = self.rig.rows("SELECT next_offset FROM ledger.source_partition WHERE partition = %s", partition)
        return int(rows[0]["next_offset"]) if rows else 0

    def committed_offset(self, partition: int) -> int:
        """How far Kafka says that the group has come; -1 where nothing is committed."""
        consumer = KafkaConsumer(bootstrap_servers=self.rig.kafka.bootstrap, group_id=GROUP, enable_auto_commit=False)
        try:
            committed = consumer.committed(TopicPartition(USAGE, partition))
            return -1 if committed is None else int(committed)
        finally:
            consumer.close(autocommit=False)

    def move_committed(self, partition: int, offset: int) -> None:
        """Set what Kafka says, once the group is empty."""
        admin = KafkaAdminClient(bootstrap_servers=self.rig.kafka.bootstrap)
        try:
            where = {TopicPartition(USAGE, partition): OffsetAndMetadata(offset, "", -1)}
            admin.alter_group_offsets(GROUP, where)
        finally:
            admin.close()
        assert self.committed_offset(partition) == offset
