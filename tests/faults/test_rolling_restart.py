"""Three brokers that are restarted one after the other, and leaders that move, under load: nobody notices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from tests.faults.rig import Rig, running_rig
from tests.faults.runs import under_load
from tests.kafka.cluster import COORDINATION
from tests.kafka.needed import need_apache_kafka
from tests.patience import wait_for

pytestmark = pytest.mark.slow

_SEED = 11
_MORE_ENTRIES = 200
_BOOKED = "SELECT count(*) AS entries FROM ledger.entry WHERE kind = 'charge'"
_DELIVERED = "SELECT sum(duplicates) AS duplicates, sum(recorded) AS recorded FROM ledger.covered_range"


def _go_on(rig: Rig) -> None:
    """Until much more is booked: so whatever was broken before is whole again."""

    def booked() -> int:
        return int(rig.rows(_BOOKED)[0]["entries"])

    target = booked() + _MORE_ENTRIES
    wait_for("usage to be booked on", lambda: booked() >= target)


def test_a_rolling_restart_under_load_loses_nothing_and_books_nothing_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    need_apache_kafka()
    began = time.monotonic()
    moves = 0
    with running_rig(tmp_path / "data", clustered=True) as rig, under_load(rig, _SEED) as load:
        cluster = rig.cluster
        assert cluster is not None
        for broker in cluster.brokers:
            _go_on(rig)
            cluster.restart(broker)
            # In this order a leader that moved is asked for while the partitions of usage are where they were, and the
            # workers of a group that lost its coordinator still have theirs.
            for topic, partition in (
                (REGISTRY_CHANGES.name, 0),
                (USAGE_EVENTS.name, 3 * broker.number),
                (COORDINATION, 0),
                (USAGE_EVENTS.name, broker.number),
            ):
                cluster.move_leader(topic, partition)
                moves += 1
        _go_on(rig)
        exits = [(service.name, service.exit_status) for service in (rig.registry, *rig.workers)]
        rest, verdict = load.end()
        (told,) = rig.rows(_DELIVERED)
    record_property(
        "figures",
        f"three brokers: {verdict.events:,} events, {told['duplicates']:,} of them delivered again,"
        f" {verdict.corrections:,} corrections, {len(cluster.brokers)} brokers restarted, {moves} leaders moved,"
        f" {len(verdict.findings)} findings; at rest after {rest:.1f} s, {time.monotonic() - began:.0f} s in all",
    )
    assert exits == [(name, None) for name, _ in exits]
    assert verdict.findings == ()
    assert told["recorded"] == verdict.events
    assert told["duplicates"], "nothing was delivered again: this run proves little"
    assert verdict.corrections, "nothing came late: this run proves little"
