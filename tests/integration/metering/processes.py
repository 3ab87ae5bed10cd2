"""Metering workers as processes of their own, on a real broker and a real database."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from kafka import KafkaProducer

from services.local.endpoints import Ports
from tests.faults.rig import Service
from tests.integration.metering.ledgers import Ledger
from tests.patience import PATIENCE_SECONDS

NO_SETTINGS: Mapping[str, str] = {}


class WorkerProcess(Service):
    """A metering process, not yet started."""

    def __init__(
        self, name: str, broker: str, ledger: Ledger, folder: Path, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        port = Ports.free_block().metering
        own = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
        where = {"BYOK_KAFKA_BOOTSTRAP": broker, "BYOK_LEDGER_DSN": ledger.dsn, "BYOK_METERING_PORT": str(port)}
        super().__init__(name, "metering", {**own, **settings, **where}, port, folder)

    def metric(self, name: str) -> float:
        """A metric without labels, as it is now."""
        return self.samples(name)[()]

    def ask_to_end(self) -> None:
        """SIGTERM, and nothing else after it."""
        self._signal(signal.SIGTERM)


def send(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    """Write records to a topic, each with a key of its own."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all")) as producer:
        sent = [producer.send(topic, value=value, key=str(number).encode()) for number, value in enumerate(values)]
        for future in sent:
            future.get(PATIENCE_SECONDS)
