"""Apache Kafka, PostgreSQL, the registry and workers as real processes, for what the embedded broker cannot do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apache_kafka.metering import Metering
from tests.faults.rig import Rig, running_rig
from tests.kafka.needed import need_apache_kafka


@pytest.fixture(scope="session")
def apache_kafka() -> None:
    """Skips where Apache Kafka cannot run."""
    need_apache_kafka()


@pytest.fixture(scope="module")
def rig(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The parts, with the registry ready and no worker."""
    with running_rig(tmp_path_factory.mktemp("rig") / "data") as running:
        running.registry.start()
        running.registry.wait_ready()
        yield running


@pytest.fixture
def metering(rig: Rig) -> Iterator[Metering]:
    """What a test needs to send usage and look at the ledger; no worker is left afterwards."""
    used = Metering(rig)
    yield used
    used.close()
