"""The topics of three brokers: made so that one may be away, and whatever is less is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from schemas.topics import REGISTRY_CHANGES, TOPICS, USAGE_DEAD_LETTERS, USAGE_EVENTS
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import Difference, create_topics, differences
from tests.kafka.cluster import ApacheCluster
from tests.patience import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bootstrap(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three brokers without topics."""
    cluster = ApacheCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster.bootstrap
    finally:
        cluster.kill()


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """For what a careless operator does."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    yield client
    client.delete_topics([topic.name for topic in TOPICS if topic.name in client.list_topics()])
    client.close()
    _wait_known(bootstrap, set())


def _create(bootstrap: str, *, replication_factor: int) -> None:
    create_topics(KafkaAccess(bootstrap), replication_factor=replication_factor)
    _wait_known(bootstrap, {topic.name for topic in TOPICS})


def _wait_known(bootstrap: str, names: set[str]) -> None:
    """Wait until each broker knows these of our topics, and no other: they hear of them one after the other."""
    for broker in bootstrap.split(","):
        wait_for(f"{broker} to know of {names or 'no topic'}", partial(_knows, broker, names))


def _knows(broker: str, names: set[str]) -> bool:
    client = KafkaAdminClient(bootstrap_servers=broker)
    try:
        return {topic.name for topic in TOPICS} & set(client.list_topics()) == names
    finally:
        client.close()


def _byok(bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BYOK_KAFKA_BOOTSTRAP": bootstrap}
    command = (sys.executable, "-m", "services", "topics", *arguments)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def _set(admin: KafkaAdminClient, topic: str, settings: dict[str, str]) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])


def test_by_default_they_are_on_three_brokers_of_which_one_may_be_away(bootstrap: str, admin: KafkaAdminClient) -> None:
    assert _byok(bootstrap, "create").returncode == 0
    _wait_known(bootstrap, {topic.name for topic in TOPICS})
    assert differences(KafkaAccess(bootstrap)) == []
    for topic in admin.describe_topics([topic.name for topic in TOPICS]):
        assert {len(partition["replica_nodes"]) for partition in topic["partitions"]} == {3}
    checked = _byok(bootstrap, "check")
    assert (checked.returncode, checked.stdout) == (0, "All topics are as they should be.\n")


def test_what_is_less_than_the_contract_is_seen(bootstrap: str, admin: KafkaAdminClient) -> None:
    _create(bootstrap, replication_factor=3)
    _set(admin, REGISTRY_CHANGES.name, {"cleanup.policy": "compact,delete", "min.insync.replicas": "1"})
    _set(admin, USAGE_EVENTS.name, USAGE_EVENTS.config | {"retention.ms": "1000", "min.insync.replicas": "3"})
    _set(admin, USAGE_DEAD_LETTERS.name, USAGE_DEAD_LETTERS.config | {"unclean.leader.election.enable": "true"})
    admin.create_partitions({REGISTRY_CHANGES.name: 2})

    registry, usage = REGISTRY_CHANGES.name, USAGE_EVENTS.name
    assert set(differences(KafkaAccess(bootstrap))) == {
        Difference(registry, "partitions", "2", "1"),
        Difference(registry, "cleanup.policy", "compact,delete", "compact"),
        Difference(registry, "min.insync.replicas", "1", "2"),
        Difference(usage, "retention.ms", "1000", "604800000 at least"),
        Difference(usage, "min.insync.replicas", "3", "2"),
        Difference(USAGE_DEAD_LETTERS.name, "unclean.leader.election.enable", "true", "false"),
    }
    assert _byok(bootstrap, "check").returncode == 1


def test_topics_on_one_broker_of_three_are_seen(bootstrap: str, admin: KafkaAdminClient) -> None:
    _create(bootstrap, replication_factor=1)
    assert {(each.topic, each.setting) for each in differences(KafkaAccess(bootstrap))} == {
        (topic.name, setting) for topic in TOPICS for setting in ("replication factor", "min.insync.replicas")
    }


def test_more_than_the_contract_is_no_difference(bootstrap: str, admin: KafkaAdminClient) -> None:
    _create(bootstrap, replication_factor=3)
    _set(admin, USAGE_EVENTS.name, {"cleanup.policy": "delete", "retention.ms": "-1"})
    admin.create_partitions({USAGE_EVENTS.name: 24})
    assert differences(KafkaAccess(bootstrap)) == []


def test_fewer_brokers_than_replicas_are_told_and_nothing_is_made(bootstrap: str, admin: KafkaAdminClient) -> None:
    refused = _byok(bootstrap, "create", "--replication-factor", "4")
    assert refused.returncode == 2
    assert "fewer than 4 brokers" in refused.stderr
    assert {each.setting for each in differences(KafkaAccess(bootstrap))} == {"the topic"}
