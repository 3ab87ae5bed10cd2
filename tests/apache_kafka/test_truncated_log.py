"""A log that begins above what is booked: events are lost, so the worker stops, says so, and books nothing more."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.apache_kafka.metering import USAGE, Metering

pytestmark = pytest.mark.slow


def _delete_before(metering: Metering, partition: int, offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=metering.rig.kafka.bootstrap)
    try:
        admin.delete_records({TopicPartition(USAGE, partition): offset})
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("partition", "kept"), [pytest.param(0, 2, id="some left"), pytest.param(1, 0, id="none left")]
)
def test_a_log_that_was_cut_off_above_what_is_booked_stops_the_worker(
    partition: int, kept: int, metering: Metering
) -> None:
    worker = metering.start()
    metering.send(5, partition)
    metering.wait_charged(metering.sent_ids())
    worker.stop()
    booked = metering.charges()
    last = metering.send(5, partition)
    _delete_before(metering, partition, last + 1 - kept)
    worker.start()
    assert worker.wait_exit() == 1
    assert "were deleted before they were metered" in worker.log_file.read_text()
    assert metering.charges() == booked
