"""One broker, PostgreSQL and registry for all tests of this folder, which run one after the other.

They keep apart by organizations of their own, and by what `tests/apache_kafka/metering.py` says of partitions.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rig import Rig, running_rig
from tests.shared_start import SharedStart

_shared = SharedStart(Path(__file__).parent)
pytest_runtest_setup, pytest_runtest_teardown = _shared.before, _shared.after


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest, apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The parts, with the registry ready and no worker."""
    running = _shared.enter(request, running_rig(tmp_path_factory.mktemp("rig") / "data"))
    running.registry.start()
    running.registry.wait_ready()
    return running
