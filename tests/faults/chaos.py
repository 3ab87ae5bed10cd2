"""The faults themselves: each breaks something for a while, and leaves everything as it found it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults.admins import Admins
from tests.faults.rig import Rig, Service, wait_for

_TAKEN_OVER_SECONDS = 40.0
# Longer than a worker's session with its group (6 s): its partitions are given to others meanwhile.
_PAST_SESSION_SECONDS = 7.0


class Chaos:
    """Breaks things, from a seed. ``kills`` counts what was killed with -9."""

    def __init__(self, rig: Rig, admins: Admins, rng: random.Random, say: Callable[[str], None]) -> None:
        self.kills = 0
        self._rig = rig
        self._admins = admins
        self._rng = rng
        self._say = say
        self._main = rig.worker("worker-1")
        self._second = rig.worker("worker-2")

    def schedule(self, how_many: int) -> list[Callable[[], None]]:
        """Faults in a random order; a worker is killed in every schedule, and something that takes long in most."""
        quick = [
            self.kill_worker,
            self.kill_registry,
            self.kill_postgres,
            self.postgres_away,
            self.postgres_hangs,
            self.postgres_slow,
            self.broker_away,
            self.broker_hangs,
            self.registry_log_late,
            self.burst_of_changes,
        ]
        long = [self.broker_restarts, self.broker_killed, self.zombie, self.zombie, self.join_and_leave]
        chosen = [self.kill_worker, *self._rng.sample(quick, how_many - 2), self._rng.choice(long)]
        self._rng.shuffle(chosen)
        return chosen

    def run(self, fault: Callable[[], None]) -> None:
        """One fault, with some peace before the next."""
        began = time.monotonic()
        fault()
        name = fault.__name__.replace("_", " ")
        self._say(f"{name} ({time.monotonic() - began:.1f} s)")
        self._pause(0.3, 1.0)

    def kill_worker(self) -> None:
        """kill -9 of the worker, which is the re-rater and the relay of dead letters too."""
        self._kill(self._main)
        self._pause(0.0, 1.0)
        self._main.start()
        self._main.wait_ready()

    def kill_registry(self) -> None:
        """kill -9 of the registry, and so of the relay of its log."""
        self._kill(self._rig.registry)
        self._pause(0.0, 1.0)
        self._rig.registry.start()
        self._rig.registry.wait_ready()

    def kill_postgres(self) -> None:
        """Every process of PostgreSQL at once; it recovers from its log."""
        self._rig.postgres.kill()
        self.kills += 1
        self._pause(0.0, 2.0)
        self._rig.postgres.start()

    def postgres_away(self) -> None:
        """Connections cut in the middle of whatever they did, and refused."""
        self._rig.database.away()
        self._pause(0.5, 3.0)
        self._rig.restore()

    def postgres_hangs(self) -> None:
        """Connections that stay, and say nothing: a commit may have happened or not."""
        self._rig.database.hold()
        self._pause(0.5, 3.0)
        if self._rng.random() < 0.5:
            self._rig.database.away()
        self._rig.restore()

    def postgres_slow(self) -> None:
        """Each answer late, so that fence, batches and re-rating overlap."""
        self._rig.database.slow(self._rng.uniform(0.01, 0.05))
        self._pause(1.0, 3.0)
        self._rig.restore()

    def broker_away(self) -> None:
        """The workers lose the broker."""
        self._rig.worker_kafka.away()
        self._pause(0.5, 4.0)
        self._rig.restore()

    def broker_hangs(self) -> None:
        """The workers hear nothing from the broker."""
        self._rig.worker_kafka.hold()
        self._pause(0.5, 4.0)
        self._rig.restore()

    def registry_log_late(self) -> None:
        """Changes are answered and not sent, or sent and not acknowledged, while usage flows on."""
        if self._rng.random() < 0.5:
            self._rig.registry_kafka.hold()
        else:
            self._rig.registry_kafka.away()
        self._admins.burst()
        self._pause(1.0, 4.0)
        self._rig.restore()

    def burst_of_changes(self) -> None:
        """Backdated plans, one after the other."""
        self._admins.burst()

    def broker_restarts(self) -> None:
        """A clean restart on the same log."""
        self._rig.kafka.stop()
        self._rig.kafka.start()

    def broker_killed(self) -> None:
        """kill -9 of the broker, and a start on what it left."""
        self._rig.kafka.kill()
        self.kills += 1
        self._rig.kafka.start()

    def zombie(self) -> None:
        """A worker is stopped past its session, its partitions are taken over, and then it goes on."""
        with self._two_workers():
            self._main.hold()
            self._admins.burst()
            began = time.monotonic()
            self._wait_advance()
            # By then nothing is held back: whatever the stopped worker had in flight is an old story.
            time.sleep(max(0.0, _PAST_SESSION_SECONDS - (time.monotonic() - began)))
            self._main.let_go()
            self._main.wait_ready()
            self._pause(0.5, 1.5)

    def join_and_leave(self) -> None:
        """A second worker comes, and goes in peace or by kill -9."""
        with self._two_workers():
            self._pause(1.0, 2.0)

    @contextmanager
    def _two_workers(self) -> Iterator[None]:
        self._second.start()
        self._second.wait_ready()
        yield
        if self._rng.random() < 0.5:
            self._kill(self._second)
        else:
            self._second.stop()

    def _wait_advance(self) -> None:
        """Wait until every partition has been booked on, which only one that is not stopped can have done."""
        before = self._offsets()
        wait_for("every partition to be taken over", lambda: self._all_beyond(before), _TAKEN_OVER_SECONDS)

    def _all_beyond(self, before: dict[int, int]) -> bool:
        now = self._offsets()
        return all(now[partition] > offset for partition, offset in before.items())

    def _offsets(self) -> dict[int, int]:
        rows = self._rig.rows("SELECT partition, next_offset FROM ledger.source_partition")
        return {row["partition"]: row["next_offset"] for row in rows}

    def _kill(self, service: Service) -> None:
        service.kill()
        self.kills += 1

    def _pause(self, least: float, most: float) -> None:
        # Not for luck: how long a fault lasts is part of what is random.
        time.sleep(self._rng.uniform(least, most))
