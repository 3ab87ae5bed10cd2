"""What a worker tells of itself while it cannot work: how much waits for it, and that it hears nothing."""

from __future__ import annotations

import pytest

from tests.apache_kafka.metering import Metering
from tests.faults.rig import Rig, Service
from tests.patience import wait_for

pytestmark = pytest.mark.slow

# More than a worker takes while it waits, of records as large as these.
WAITING = 5_000
EVERY = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"


def _lag(worker: Service) -> float:
    return sum(worker.samples("byok_consumer_lag_events").values())


def test_its_lag_is_all_that_waits_while_the_database_is_away(rig: Rig, metering: Metering) -> None:
    worker = metering.start()
    metering.send(1, partition=0)
    metering.wait_charged(metering.sent_ids())
    wait_for("nothing to wait", lambda: _lag(worker) == 0)
    rig.database.away()
    metering.send(WAITING, partition=0)
    wait_for(f"a lag of {WAITING}", lambda: _lag(worker) == WAITING)
    rig.restore()
    metering.wait_charged(metering.sent_ids())
    wait_for("nothing to wait", lambda: _lag(worker) == 0)


def test_it_is_not_ready_while_its_broker_is_silent(rig: Rig, metering: Metering) -> None:
    worker = metering.start()
    metering.send(1, partition=0)
    metering.wait_charged(metering.sent_ids())
    rig.worker_kafka.hold()
    # One partition after the other: each was fetched last at another time.
    wait_for("it to say that it hears nothing of any", lambda: EVERY in (worker.said or {}).get("fetching", ""))
    rig.restore()
    worker.wait_ready()
