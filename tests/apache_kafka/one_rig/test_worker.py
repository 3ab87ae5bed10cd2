"""The whole metering worker on Apache Kafka: restarts of either, transactions, moved offsets, and others beside it."""

from __future__ import annotations

import threading

import pytest

from tests.apache_kafka.metering import UNTOUCHED, Metering
from tests.patience import wait_for

pytestmark = pytest.mark.slow


def test_what_came_while_it_was_away_is_booked_when_it_is_back(metering: Metering) -> None:
    worker = metering.start()
    last = metering.send(10, partition=0)
    metering.wait_charged(metering.sent_ids())
    wait_for("the offsets to be committed", lambda: metering.committed_offset(0) == last + 1)
    worker.stop()
    metering.send(10, partition=0)
    metering.start()
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


def test_what_a_producer_took_back_is_never_charged(metering: Metering) -> None:
    metering.start()
    producer = metering.transactional()
    kept: list[str] = []
    for number in range(6):
        ids = metering.transaction(producer, 3, 1, commit=number % 2 == 0)
        kept += ids if number % 2 == 0 else []
    producer.close()
    # Covered up to here means that the markers of the transactions, which nobody delivers, are covered too.
    last = metering.send(1, partition=1)
    metering.wait_charged([*kept, metering.sent_ids()[-1]])
    assert metering.booked_offset(1) == last + 1
    metering.assert_conserved()


def test_each_event_in_a_transaction_of_its_own_is_booked_in_time(metering: Metering) -> None:
    # Every transaction leaves a marker in the log, and so a gap that has to be looked into.
    producer = metering.transactional()
    for number in range(100):
        metering.transaction(producer, 1, 2 + number % 2, commit=True)
    producer.close()
    worker = metering.start()
    metering.wait_charged(metering.sent_ids())
    worker.stop()
    metering.assert_conserved()


def test_records_that_the_group_has_skipped_are_booked(metering: Metering) -> None:
    metering.start().stop()
    last = metering.send(20, partition=3)
    before = metering.booked_offset(3)
    metering.move_committed(3, before + 15)
    metering.start()
    metering.wait_charged(metering.sent_ids())
    assert metering.booked_offset(3) == last + 1
    metering.assert_conserved()


def test_a_partition_that_is_new_to_the_ledger_is_booked_from_its_beginning(metering: Metering) -> None:
    metering.start().stop()
    last = metering.send(20, partition=UNTOUCHED)
    metering.move_committed(UNTOUCHED, last)
    metering.start()
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


def test_records_that_the_group_goes_back_to_are_not_booked_twice(metering: Metering) -> None:
    worker = metering.start()
    metering.send(10, partition=5)
    metering.wait_charged(metering.sent_ids())
    worker.stop()
    metering.move_committed(5, 0)
    metering.start()
    metering.send(1, partition=5)
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_of_the_broker_loses_nothing(how: str, metering: Metering) -> None:
    metering.start()
    metering.send(20)
    getattr(metering.rig.kafka, how)()
    metering.rig.kafka.start()
    metering.send(20)
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()


def test_workers_that_join_and_leave_lose_nothing_and_book_nothing_twice(metering: Metering) -> None:
    metering.start()
    enough = threading.Event()

    def send() -> None:
        while not enough.wait(0.01):
            metering.send(3)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        second = metering.start("worker-2")
        third = metering.start("worker-3")
        second.stop()
        third.kill()
        metering.start("worker-2")
    finally:
        enough.set()
        sender.join()
    metering.wait_charged(metering.sent_ids())
    metering.assert_conserved()
