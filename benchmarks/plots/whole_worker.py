"""Whole metering workers on a stack of the benchmark's own: the embedded broker and PostgreSQL, and no other service.

What the registry would say is put into its topic as it would say it, so that a million keys take no million requests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from process_usage import processor_seconds
from psycopg import Connection
from workload import booked, event, publish

from plots.processes import resident_megabytes
from schemas.registry_changes import REGISTRY_CHANGE, RateCardChange
from schemas.topics import REGISTRY_CHANGES, TOPICS, USAGE_EVENTS
from services.key_registry.rate_cards import packaged_cards
from services.local.processes import StopSwitch
from services.local.stack import BYOK_COMMANDS, Commands, Stack
from services.runtime.broker import kafka_producer
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics

SINCE = "2026-05-01T00:00:00Z"
_PATIENCE_SECONDS = 900
_LOOK_SECONDS = 0.02
_PORTS_EACH = 10


class Started(NamedTuple):
    """What a worker took until it knew all of the registry log."""

    seconds: float
    worker_seconds: float
    """Processor time."""
    most_megabytes: float
    """Held in memory at most."""


class Booked(NamedTuple):
    """What workers took for events that had waited for them."""

    events: int
    seconds: float
    """From the first commit that was seen to the last."""
    worker_seconds: float
    """Processor time of all of them in that time."""
    megabytes: float
    """Held in memory by one of them in the end."""

    def told(self) -> dict[str, float]:
        """As a point has it."""
        return {
            "events/s": self.events / self.seconds,
            "worker, µs an event": 1e6 * self.worker_seconds / self.events,
            "worker's memory, MB": self.megabytes,
        }


class Worker:
    """One metering worker."""

    def __init__(self, stack: Stack, log: Path, number: int = 0) -> None:
        """Begins to start it."""
        environment = os.environ | stack.environment()
        port = int(environment["BYOK_METERING_PORT"])
        environment["BYOK_METERING_PORT"] = str(port + number * _PORTS_EACH)
        self._log, self._began = log, time.monotonic()
        with log.open("wb") as written:
            command = [sys.executable, "-m", "services", "metering"]
            self.process = subprocess.Popen(command, env=environment, stdout=written, stderr=written)

    def wait_for_the_log(self) -> Started:
        """Until it has read the registry log."""
        wait(lambda: "registry log read" in self.told(), self)
        took = time.monotonic() - self._began
        pid = self.process.pid
        return Started(took, processor_seconds(pid), resident_megabytes(pid, "VmHWM"))

    def told(self) -> str:
        """Its log."""
        return self._log.read_text()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=60)


def wait(holds: Any, *workers: Worker) -> None:
    """Until something holds. SystemExit where it does not in time, or a worker ends."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        ended = [worker for worker in workers if worker.process.poll() is not None]
        if ended or time.monotonic() > deadline:
            told = "".join(worker.told()[-2_000:] for worker in workers)
            raise SystemExit(f"the metering does not do it; the end of its log:\n{told}")
        time.sleep(_LOOK_SECONDS)


class Bench:
    """A stack without services, to start workers on."""

    def __init__(self, stack: Stack, folder: Path, ledger: Connection[Any]) -> None:
        """``ledger`` is in autocommit."""
        self._stack = stack
        self._folder = folder
        self._ledger = ledger
        self._numbers = count()
        self._seqs = count(1)

    def say(self, changes: Iterable[dict[str, Any]]) -> None:
        """Registry changes into their topic, numbered on; the first time the rate cards before them."""
        producer = kafka_producer(
            KafkaAccess(self._stack.endpoints.kafka), "byok-bench", REGISTRY_CHANGES.name, timeout_seconds=60
        )
        for key, change in self._numbered(changes):
            producer.send(REGISTRY_CHANGES.name, orjson.dumps(change), key.encode())
        producer.flush()
        producer.close()

    def learn(self, changes: Iterable[dict[str, Any]]) -> None:
        """The same, and have them read and nothing to do about them, so that what is measured then is booking alone."""
        self.say(changes)
        with self.workers() as (worker,):
            worker.wait_for_the_log()
        self.nothing_to_correct()

    def _numbered(self, changes: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        if (seq := next(self._seqs)) == 1:
            for card in packaged_cards():
                said = RateCardChange(
                    seq=seq, changed_at=SINCE, card=card.card, effective_from=card.effective_from, body=card.body
                )
                yield said.key, REGISTRY_CHANGE.dump_python(said, mode="json", by_alias=True)
                seq = next(self._seqs)
        for change in changes:
            yield REGISTRY_CHANGE.validate_python(change | {"seq": seq}).key, change | {"seq": seq}
            seq = next(self._seqs)

    def nothing_to_correct(self) -> None:
        """Spare the re-rater the changes of now, one after the other: there are no entries that they could touch."""
        self._ledger.execute(
            "UPDATE ledger.fence SET (seq, rerated_seq) = (SELECT max(seq), max(seq) FROM ledger.registry_change)"
        )

    @contextmanager
    def workers(self, number: int = 1) -> Iterator[list[Worker]]:
        """Workers that run meanwhile."""
        with ExitStack() as ending:
            found = []
            for each in range(number):
                found.append(Worker(self._stack, self._folder / f"worker-{each}.log", each))
                ending.callback(found[-1].stop)
            yield found

    def publish(self, events: int, in_record: int, organizations: int) -> None:
        """Events of so many organizations, which take turns record by record, so that all records are full."""
        numbers = islice(self._numbers, events)
        publish(self._stack, (event(f"org-{n // in_record % organizations}", n) for n in numbers), in_record)

    def book(self, events: int, in_record: int, organizations: int, workers: int = 1) -> Booked:
        """Publish them, and let workers book them then."""
        before = booked(self._ledger)
        self.publish(events, in_record, organizations)
        with self.workers(workers) as running:
            wait(lambda: booked(self._ledger) > before, *running)
            first, began = booked(self._ledger) - before, time.monotonic()
            used = [processor_seconds(each.process.pid) for each in running]
            wait(lambda: booked(self._ledger) >= before + events, *running)
            seconds = time.monotonic() - began
            spent = sum(processor_seconds(each.process.pid) for each in running) - sum(used)
            megabytes = resident_megabytes(running[0].process.pid)
        return Booked(events - first, seconds, spent, megabytes)


@contextmanager
def bench(partitions: int = USAGE_EVENTS.partitions) -> Iterator[Bench]:
    """A stack with its topics, usage events in so many partitions."""
    topics = tuple(each._replace(partitions=partitions) if each is USAGE_EVENTS else each for each in TOPICS)
    commands = Commands(upgrade=BYOK_COMMANDS.upgrade, services={}, create_topics=partial(_create, topics))
    with (
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=commands, switch=StopSwitch()) as stack,
        connect(stack.endpoints.ledger_dsn, "bench", autocommit=True) as ledger,
    ):
        yield Bench(stack, Path(folder), ledger)


def _create(topics: Any, bootstrap: str) -> None:
    create_topics(KafkaAccess(bootstrap), replication_factor=1, topics=topics)


def plans_and_keys(organizations: Iterable[int], keys_each: int = 1) -> Iterator[dict[str, Any]]:
    """Of each organization its plan, and team keys: the first of the team that all events are of."""
    for number in organizations:
        org_id = f"org-{number}"
        plan = {"plan": "pro", "from": SINCE, "to": None}
        yield {"kind": "plan", "changed_at": SINCE, "org_id": org_id, "plans": [plan]}
        for key in range(keys_each):
            yield {
                "kind": "credential",
                "changed_at": SINCE,
                "credential_id": f"00000000-0000-4000-8000-{number * keys_each + key:012}",
                "org_id": org_id,
                "scope": {"type": "personal", "id": f"user-{key}"} if key else {"type": "team", "id": "team"},
                "provider": "openai",
                "hint": "…abcd",
                "active": [{"from": SINCE, "to": None}],
            }
