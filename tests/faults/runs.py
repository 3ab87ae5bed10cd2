"""One run: load, faults, rest, verdict. The schedule follows from the seed; which race is won, from the machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from schemas.topics import USAGE_EVENTS
from tests.faults.admins import Admins
from tests.faults.chaos import Chaos
from tests.faults.oracle import Verdict, judge
from tests.faults.rig import Rig, Service, running_rig
from tests.faults.usage import Known, Usage
from tests.patience import wait_for

_FAULTS = 6


class Outcome(NamedTuple):
    """What one run came to."""

    seed: int
    verdict: Verdict
    brokers: int
    kills: int
    moves: int
    """Leaders that were moved from one broker to another."""
    rest_seconds: float
    """From the last event and the last fault to a ledger at rest."""
    died: tuple[str, ...]
    """Services that ended by themselves, which none should."""
    seconds: float

    @property
    def right(self) -> bool:
        """Whether everything is as it should be."""
        return not self.verdict.findings and not self.died


def brokers_of(seed: int) -> int:
    """On how many brokers a seed runs where nobody says: every second one on three."""
    return 1 if seed % 2 else 3


def run_seed(
    seed: int, folder: Path, say: Callable[[str], None], *, faults: int = _FAULTS, brokers: int | None = None
) -> Outcome:
    """Start everything on ``folder``, break it under load, and judge what the ledger says afterwards."""
    began = time.monotonic()
    brokers = brokers or brokers_of(seed)
    with running_rig(folder, clustered=brokers > 1) as rig, under_load(rig, seed) as load:
        chaos = Chaos(rig, load.admins, random.Random(seed), say)  # noqa: S311
        died = _break(rig, chaos, faults)
        rest, verdict = load.end()
    seconds = time.monotonic() - began
    return Outcome(seed, verdict, brokers, chaos.kills, chaos.moves, rest, tuple(died), seconds)


class Load:
    """Usage that is sent, and keys and plans that are changed, all the time."""

    def __init__(self, rig: Rig, usage: Usage, admins: Admins) -> None:
        self.usage, self.admins = usage, admins
        self._rig = rig

    def end(self) -> tuple[float, Verdict]:
        """Send the last; how long it took until the ledger was at rest, and what it came to."""
        self.admins.finish()
        self.usage.finish()
        rest = wait_for_rest(self._rig)
        return rest, judge(self._rig, self.usage.sent, self.admins.answered)


@contextmanager
def under_load(rig: Rig, seed: int) -> Iterator[Load]:
    """The registry and two workers, ready and under load from the seed."""
    known = Known()
    services = (rig.registry, rig.worker("worker-1"), rig.worker("worker-2"))
    for service in services:
        service.start()
    rig.registry.wait_ready()
    with rig.http() as http, closing(Usage(rig.kafka.bootstrap, seed, known)) as usage:
        admins = Admins(http, seed, known)
        admins.prepare()
        for service in services:
            service.wait_ready()
        usage.start()
        admins.start()
        yield Load(rig, usage, admins)


def _break(rig: Rig, chaos: Chaos, faults: int) -> list[str]:
    died: list[str] = []
    for fault in chaos.schedule(faults):
        chaos.run(fault)
        for service in (rig.registry, *rig.workers):
            if service.exit_status is not None:
                died.append(f"{service.name} ended with {service.exit_status} after {fault.__name__}")
                _restart(service)
    rig.restore()
    return died


def _restart(service: Service) -> None:
    service.stop()
    service.start()
    service.wait_ready()


def wait_for_rest(rig: Rig) -> float:
    """Wait until all that was sent is booked and all that is known is worked off; the seconds that it took."""
    began = time.monotonic()
    ends = _ends(rig)
    try:
        wait_for("all to be booked", lambda: _booked(rig) >= ends.items())
    except AssertionError as error:
        missing = {partition: f"{at} of {ends[partition]}" for partition, at in _booked(rig) if at != ends[partition]}
        raise AssertionError(f"{error}; only these are: {missing}") from None
    (head,) = rig.rows("SELECT last_seq FROM registry.log_head", database="registry")
    query = "SELECT 1 FROM ledger.fence WHERE rerated_seq >= %s"
    wait_for(f"change {head} to be worked off", lambda: rig.rows(query, head["last_seq"]))
    return time.monotonic() - began


def _booked(rig: Rig) -> set[tuple[int, int]]:
    rows = rig.rows("SELECT partition, next_offset FROM ledger.source_partition WHERE topic = %s", USAGE_EVENTS.name)
    return {(row["partition"], row["next_offset"]) for row in rows}


def _ends(rig: Rig) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=rig.kafka.bootstrap.split(","))
    try:
        partitions = [TopicPartition(USAGE_EVENTS.name, number) for number in range(USAGE_EVENTS.partitions)]
        return {partition.partition: end for partition, end in consumer.end_offsets(partitions).items()}
    finally:
        consumer.close()
