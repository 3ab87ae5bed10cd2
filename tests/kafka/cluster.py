"""A cluster of Apache Kafka on loopback: every record on each of its brokers, and one of them may be away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from services.local.endpoints import Ports
from tests.kafka.apache_kafka import ApacheKafka, Quorum
from tests.patience import PATIENCE_SECONDS

_BROKERS = 3
COORDINATION = "__consumer_offsets"
"""Whoever leads its one partition is the coordinator of every group."""
_PREFERRED = 0
"""The kind of election that makes the first replica the leader."""
_SETTINGS = {
    **dict.fromkeys(
        (
            "default.replication.factor",
            "offsets.topic.replication.factor",
            "transaction.state.log.replication.factor",
            "share.coordinator.state.topic.replication.factor",
        ),
        str(_BROKERS),
    ),
    "min.insync.replicas": str(_BROKERS - 1),
    "transaction.state.log.min.isr": str(_BROKERS - 1),
    # Leaders go where a test says, and stay there.
    "auto.leader.rebalance.enable": "false",
    "replica.lag.time.max.ms": "10000",
}


class ApacheCluster:
    """Three brokers with our topics. Start it from the main thread: it dies with the thread that started it."""

    replication_factor = _BROKERS

    def __init__(self, folder: Path) -> None:
        """Each broker has a folder of its own in ``folder``."""
        blocks = [Ports.free_block() for _ in range(_BROKERS)]
        quorum = Quorum.of(*(block[1] for block in blocks))
        self.brokers = tuple(
            ApacheKafka(folder / f"broker-{number}", port=block[0], quorum=quorum, settings=_SETTINGS)
            for number, block in enumerate(blocks, start=1)
        )

    @property
    def bootstrap(self) -> str:
        """``host:port`` of every broker."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start every broker; return when all answer."""
        self.prepare()
        self.launch()
        self.wait()

    def prepare(self) -> None:
        """Make what the brokers need on disk; from any thread."""
        with ThreadPoolExecutor(_BROKERS) as together:
            list(together.map(ApacheKafka.prepare, self.brokers))

    def launch(self) -> None:
        """Start what is prepared, without waiting for it."""
        for broker in self.brokers:
            broker.launch()

    def wait(self) -> None:
        """Return when every broker answers."""
        for broker in self.brokers:
            broker.wait()

    def stop(self) -> None:
        """End all brokers as an operator would."""
        for broker in self.brokers:
            broker.stop()

    def kill(self) -> None:
        """End all brokers as a failing machine would."""
        for broker in self.brokers:
            broker.kill()

    def restart(self, broker: ApacheKafka, how: Callable[[ApacheKafka], None] = ApacheKafka.stop) -> None:
        """End one broker, as ``how`` ends it, and start it again; return when it has all that the others have."""
        how(broker)
        broker.start()
        self.wait_in_sync()

    def wait_in_sync(self) -> None:
        """Return when every replica of every partition is in sync: only then may another broker be ended."""
        with _Admin(self.bootstrap) as admin:
            _until(admin.all_in_sync)

    def leader(self, topic: str, partition: int) -> int:
        """The number of the broker that leads the partition."""
        with _Admin(self.bootstrap) as admin:
            return admin.leader(topic, partition)

    def move_leader(self, topic: str, partition: int) -> int:
        """Let another broker lead the partition; its number. Returns when the cluster says so."""
        with _Admin(self.bootstrap) as admin:
            before = admin.leader(topic, partition)
            after = before % _BROKERS + 1
            others = [number for number in range(1, _BROKERS + 1) if number != after]
            admin.prefer(topic, partition, [after, *others])
            _until(lambda: admin.leader(topic, partition) == after)
            return after


class _Admin:
    def __init__(self, bootstrap: str) -> None:
        self._client = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))

    def __enter__(self) -> _Admin:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def leader(self, topic: str, partition: int) -> int:
        (described,) = self._client.describe_topics([topic])
        return next(int(each["leader_id"]) for each in described["partitions"] if each["partition_index"] == partition)

    def all_in_sync(self) -> bool:
        described = self._client.describe_topics()
        partitions = [partition for topic in described for partition in topic["partitions"]]
        return all(len(each["isr_nodes"]) == len(each["replica_nodes"]) for each in partitions)

    def prefer(self, topic: str, partition: int, replicas: Sequence[int]) -> None:
        place = TopicPartition(topic, partition)
        self._client.alter_partition_reassignments({place: list(replicas)})
        _until(lambda: not self._client.list_partition_reassignments([place]))
        # Refused while the first replica is not in sync yet. Where it leads already, there is nothing to elect.
        _until(lambda: self._client.elect_leaders(_PREFERRED, {topic: [partition]}) is not None)


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if look():
                return
        except KafkaError:
            pass
        assert time.monotonic() < deadline, "the cluster does not do it"
        time.sleep(0.05)
