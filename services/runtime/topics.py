"""The topics of the contract on a cluster: made by an operator, never by a service, and held against the contract."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from schemas.topics import TOPICS, Topic
from services.runtime.backoff import delays
from services.runtime.broker import admin_client
from services.runtime.broker_refusals import BrokerRefused, Right, cause, require
from services.runtime.kafka_access import KafkaAccess
from services.runtime.logs import logger

_log = logger(__name__)

REPLICATION_FACTOR = 3
_CREATE_SECONDS = 60.0
_ASK_SECONDS = 10.0
_CLIENT = "byok-topics"
_LOOK = ("Describe", "DescribeConfigs")
_FOR_EVER = -1


class TopicMissingError(UnknownTopicOrPartitionError):  # type: ignore[misc]  # kafka-python has no types
    """A topic is not there, and only an operator may make it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"the topic {self.name} is missing; make it with `byok topics create`"


class Difference(NamedTuple):
    """One setting of a topic that is not as the contract has it."""

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, should be {self.wanted}"


def create_topics(
    access: KafkaAccess,
    topics: Iterable[Topic] = TOPICS,
    *,
    replication_factor: int,
    timeout_seconds: float = _CREATE_SECONDS,
) -> list[str]:
    """Create the topics that do not exist yet; their names. What is there is left as it is.

    Raises KafkaError when the broker stays away for so long, or does not do it: one that has fewer brokers than
    ``replication_factor`` at once.
    """
    deadline, wanted = time.monotonic() + timeout_seconds, list(topics)
    for delay in delays():
        try:
            with admin_client(access, _CLIENT, _ASK_SECONDS) as admin:
                return [topic.name for topic in wanted if _create(admin, topic, replication_factor)]
        except KafkaError as error:
            if not error.retriable or time.monotonic() + delay > deadline:
                raise
            time.sleep(delay)
    raise AssertionError("delays have no end")


def _create(admin: KafkaAdminClient, topic: Topic, replication_factor: int) -> bool:
    if topic.name in admin.list_topics():
        return False
    settings = topic.config | {"min.insync.replicas": str(_insync(replication_factor))}
    try:
        admin.create_topics([NewTopic(topic.name, topic.partitions, replication_factor, {}, settings)])
    except TopicAlreadyExistsError:
        return False
    return True


def _insync(replication_factor: int) -> int:
    # One broker may be away, and nothing is acknowledged that only one has.
    return max(1, replication_factor - 1)


def warn_of_differences(access: KafkaAccess, topics: Iterable[Topic] = TOPICS) -> None:
    """Log what is not as the contract has it. Says nothing where the broker is away."""
    try:
        found = differences(access, topics)
    except (BrokerRefused, AuthorizationError) as error:
        _log.warning("whether the topics are as they should be is not told", error=cause(error))
        return
    except KafkaError:
        return
    for difference in found:
        _log.warning("a topic is not as it should be; see `byok topics check`", difference=str(difference))


def differences(
    access: KafkaAccess, topics: Iterable[Topic] = TOPICS, *, replication_factor: int | None = None
) -> list[Difference]:
    """What is not as the contract has it: less than it asks for, or something else. Raises KafkaError.

    ``replication_factor`` is wanted at least; by default 3, or as many as there are brokers. A setting that the broker
    does not tell is passed over.
    """
    wanted = list(topics)
    with admin_client(access, _CLIENT, _ASK_SECONDS) as admin:
        rights = [Right(operation, "topic", topic.name) for topic in wanted for operation in _LOOK]
        require(access, admin, rights)
        if replication_factor is None:
            replication_factor = min(REPLICATION_FACTOR, len(admin.describe_cluster()["brokers"]))
        there = {each["name"]: each["partitions"] for each in admin.describe_topics([topic.name for topic in wanted])}
        settings = _settings(admin, [topic.name for topic in wanted if there[topic.name]])
    return [
        difference
        for topic in wanted
        for difference in _compared(topic, there[topic.name], settings.get(topic.name, {}), replication_factor)
    ]


def _settings(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    told = admin.describe_configs(asked, config_filter="all")["topic"]
    return {name: {setting: str(each["value"]) for setting, each in told[name].items()} for name in told}


def _compared(
    topic: Topic, partitions: Sequence[Mapping[str, Any]], settings: Mapping[str, str], replication_factor: int
) -> Iterator[Difference]:
    if not partitions:
        yield Difference(topic.name, "the topic", "missing", "there")
        return
    # A total order has one partition; of the others more do no harm.
    if len(partitions) < topic.partitions or topic.partitions == 1 < len(partitions):
        yield Difference(topic.name, "partitions", str(len(partitions)), str(topic.partitions))
    replicas = min(len(partition["replica_nodes"]) for partition in partitions)
    if replicas < replication_factor:
        yield Difference(topic.name, "replication factor", str(replicas), f"{replication_factor} at least")
    insync = _insync(replication_factor)
    if not insync <= int(settings.get("min.insync.replicas", insync)) <= max(insync, replicas - 1):
        yield Difference(topic.name, "min.insync.replicas", settings["min.insync.replicas"], str(insync))
    if settings.get("unclean.leader.election.enable", "false") != "false":
        yield Difference(topic.name, "unclean.leader.election.enable", "true", "false")
    for setting, wanted in topic.config.items():
        found = settings.get(setting, wanted)
        if setting == "retention.ms":
            if int(wanted) > int(found) != _FOR_EVER:
                yield Difference(topic.name, setting, found, f"{wanted} at least")
        elif found != wanted:
            yield Difference(topic.name, setting, found, wanted)
