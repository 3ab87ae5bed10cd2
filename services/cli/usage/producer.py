"""The connection to the broker of `byok usage publish`."""

from __future__ import annotations

from typing import Any

from kafka.errors import KafkaError

from schemas.topics import USAGE_EVENTS
from services.cli.usage.sender import SendFailed
from services.runtime.broker import kafka_producer
from services.runtime.broker_refusals import BrokerRefused
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.kafka_access import KafkaAccess


class LateProducer:
    """Connects when there is something to send: nobody waits for a broker to hear what is wrong with a file."""

    def __init__(self, access: KafkaAccess, timeout_seconds: float) -> None:
        self._kafka = access
        self._timeout_seconds = timeout_seconds
        self._producer: Any = None

    def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Any:
        """Queue one record. Raises SendFailed when the broker cannot be reached, CommandFailed when it refuses us."""
        if self._producer is None:
            self._producer = self._connect()
        return self._producer.send(topic, key=key, value=value, headers=headers)

    def close(self) -> None:
        """Let go of the broker."""
        # After a good run nothing is left to wait for; after a bad one there is no use in waiting.
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _connect(self) -> Any:
        seconds = self._timeout_seconds
        try:
            return kafka_producer(self._kafka, "byok-usage-publish", USAGE_EVENTS.name, timeout_seconds=seconds)
        except BrokerRefused as refused:
            raise CommandFailed(str(refused), AWAY) from None
        except KafkaError as error:
            raise SendFailed(f"it cannot be reached ({type(error).__name__})") from error
