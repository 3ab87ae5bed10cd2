"""Partitions that a worker takes over after their leader moved: they are booked at once, whatever the worker knew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apache_kafka.metering import USAGE, Metering
from tests.faults.rig import Rig, running_rig
from tests.patience import wait_for

pytestmark = pytest.mark.slow

EACH = 20
PARTITIONS = 12


@pytest.fixture(scope="module")
def rig(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Three brokers, and the registry."""
    with running_rig(tmp_path_factory.mktemp("rig") / "data", clustered=True) as running:
        running.registry.start()
        running.registry.wait_ready()
        yield running


def test_empty_partitions_whose_leader_moved_are_booked_by_who_takes_them_over(metering: Metering) -> None:
    cluster = metering.rig.cluster
    assert cluster is not None
    stays, dies = metering.start("worker-1"), metering.start("worker-2")
    taken = wait_for("the second worker to have partitions", lambda: metering.partitions_of(dies))
    for partition in taken:
        cluster.move_leader(USAGE, partition)
    dies.kill()
    for partition in range(PARTITIONS):
        metering.send(EACH, partition)
    metering.wait_charged(metering.sent_ids())
    assert stays.ready
