"""Apache Kafka, PostgreSQL, the registry and workers as real processes, for what the embedded broker cannot do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apache_kafka.metering import Metering
from tests.faults.rig import Rig
from tests.kafka.needed import need_apache_kafka


@pytest.fixture(scope="session")
def apache_kafka() -> None:
    """Skips where Apache Kafka cannot run."""
    need_apache_kafka()


@pytest.fixture
def metering(rig: Rig) -> Iterator[Metering]:
    """What a test needs to send usage and look at the ledger; no worker is left afterwards, and nothing is away."""
    used = Metering(rig)
    yield used
    used.close()
