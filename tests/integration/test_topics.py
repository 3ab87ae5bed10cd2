"""`byok topics` on the embedded broker, which has one node and tells no settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient

from schemas.topics import REGISTRY_CHANGES, TOPICS
from tests.integration.real_parts import running_broker
from tests.typed import typed


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("broker")) as bootstrap:
        yield bootstrap


def byok(broker: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return typed("topics", *arguments, settings={"BYOK_KAFKA_BOOTSTRAP": broker})


def test_a_missing_topic_is_seen_and_made_and_the_others_are_left(broker: str) -> None:
    assert byok(broker, "check").returncode == 0
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_topics([REGISTRY_CHANGES.name])

    seen = byok(broker, "check")
    assert seen.returncode == 1
    assert seen.stdout.split("\n")[1].split() == [REGISTRY_CHANGES.name, "the", "topic", "missing", "there"]
    made = byok(broker, "create", "--replication-factor", "1")
    assert (made.returncode, made.stdout) == (0, f"created {REGISTRY_CHANGES.name}\n")
    assert {topic.name for topic in TOPICS} <= set(admin.list_topics())
    admin.close()
    assert byok(broker, "check").returncode == 0
    assert "All topics are there" in byok(broker, "create", "--replication-factor", "1").stdout


def test_a_broker_that_is_away_is_status_3(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = byok("127.0.0.1:1", "check")
    assert done.returncode == 3, done
    assert "BYOK_KAFKA_BOOTSTRAP" in done.stderr
