"""For tests that need Apache Kafka itself."""

from __future__ import annotations

from tests.enabling import skip_unless
from tests.kafka.jars import KafkaUnavailableError, fetch, java

_COMMAND = "make kafka KAFKA_OPTIONS=--fetch (with Java 17 installed)"


def need_apache_kafka() -> None:
    """Skip the running test where Apache Kafka cannot run, and say what enables it; its jars are fetched once."""
    try:
        java()
        fetch()
    except KafkaUnavailableError as error:
        skip_unless(None, str(error), _COMMAND, needs="java")
