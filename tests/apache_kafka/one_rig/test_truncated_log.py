"""A log that begins above what is booked: events are lost, so the worker stops, says so, and books nothing more."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.apache_kafka.metering import USAGE, Metering

pytestmark = pytest.mark.slow

_PARTITION = 0


def _delete_before(metering: Metering, offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=metering.rig.kafka.bootstrap)
    try:
        admin.delete_records({TopicPartition(USAGE, _PARTITION): offset})
    finally:
        admin.close()


@pytest.mark.parametrize("kept", [pytest.param(2, id="some left"), pytest.param(0, id="none left")])
def test_a_log_that_was_cut_off_above_what_is_booked_stops_the_worker(kept: int, metering: Metering) -> None:
    # On a ledger of its own: no worker goes on with a partition whose log was cut off. The ledger of the other tests
    # has it all before it is deleted.
    ledger = f"ledger_cut_off_{kept}"
    metering.start()
    worker = metering.rig.fresh_worker(ledger)
    worker.start()
    worker.wait_ready()
    metering.send(5, _PARTITION)
    metering.wait_charged(metering.sent_ids(), ledger)
    worker.stop()
    booked = metering.charges(ledger)
    last = metering.send(5, _PARTITION)
    metering.wait_charged(metering.sent_ids())
    _delete_before(metering, last + 1 - kept)
    worker.start()
    assert worker.wait_exit() == 1
    assert "were deleted before they were metered" in worker.log_file.read_text()
    assert metering.charges(ledger) == booked
