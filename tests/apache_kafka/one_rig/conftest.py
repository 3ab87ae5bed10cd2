"""One broker, PostgreSQL and registry for all tests of this folder, which run one after the other.

They keep apart by organizations of their own, and by what `tests/apache_kafka/metering.py` says of partitions.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.rig import Rig, running_rig


@pytest.fixture(scope="session")
def rig(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The parts, with the registry ready and no worker."""
    with running_rig(tmp_path_factory.mktemp("rig") / "data") as running:
        running.registry.start()
        running.registry.wait_ready()
        yield running
