"""What a benchmark runs on: the stack with its embedded broker, or with Apache Kafka in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from services.local.processes import StopSwitch
from services.local.stack import BYOK_COMMANDS, Commands, Stack
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.kafka.apache_kafka import ApacheKafka
from tests.kafka.jars import version

BROKERS = ("embedded", "apache")


class OnBroker(NamedTuple):
    """A stack, and the broker that its services use."""

    stack: Stack
    kafka: str
    """Where it listens."""
    broker: str
    """What people call it."""


@contextmanager
def stack_on(
    broker: str, folder: Path, services: Iterable[str], switch: StopSwitch | None = None
) -> Iterator[OnBroker]:
    """Start it in ``folder`` with these of its services.

    Raises StackError, and KafkaUnavailableError where Apache Kafka cannot run.
    """
    apache = ApacheKafka(folder / "kafka") if broker == "apache" else None
    try:
        if apache is not None:
            apache.start()
            create_topics(KafkaAccess(apache.bootstrap), replication_factor=1)
        with Stack(folder / "stack", commands=_commands(services, apache), switch=switch) as stack:
            if apache is None:
                yield OnBroker(stack, stack.endpoints.kafka, "the embedded broker")
            else:
                yield OnBroker(stack, apache.bootstrap, f"Apache Kafka {version()}")
    finally:
        if apache is not None:
            apache.stop()


def _commands(services: Iterable[str], apache: ApacheKafka | None) -> Commands:
    told = () if apache is None else ("env", f"BYOK_KAFKA_BOOTSTRAP={apache.bootstrap}")
    return Commands(
        upgrade=BYOK_COMMANDS.upgrade, services={name: (*told, *BYOK_COMMANDS.services[name]) for name in services}
    )
