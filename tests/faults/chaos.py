"""The faults themselves: each breaks something for a while, and leaves everything as it found it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from tests.faults.admins import Admins
from tests.faults.rig import Rig, Service
from tests.kafka.apache_kafka import ApacheKafka
from tests.kafka.cluster import COORDINATION, ApacheCluster
from tests.patience import wait_for

_USAGE_LEADERS_MOVED = 4
# Longer than a worker's session with its group (6 s): its partitions are given to others meanwhile.
_PAST_SESSION_SECONDS = 7.0


class Chaos:
    """Breaks things, from a seed. ``kills`` counts what was killed with -9, ``moves`` the leaders that were moved."""

    def __init__(self, rig: Rig, admins: Admins, rng: random.Random, say: Callable[[str], None]) -> None:
        self.kills = 0
        self.moves = 0
        self._rig = rig
        self._admins = admins
        self._rng = rng
        self._say = say

    def schedule(self, how_many: int) -> list[Callable[[], None]]:
        """Faults in a random order; a worker is killed in every schedule, and something that takes long in most.

        Three brokers move their leaders in every schedule. The way to one of them cannot be cut for some alone.
        """
        quick = [
            self.kill_worker,
            self.kill_registry,
            self.kill_postgres,
            self.postgres_away,
            self.postgres_hangs,
            self.postgres_slow,
            self.burst_of_changes,
        ]
        if self._rig.cluster is None:
            always = [self.kill_worker]
            quick += [self.broker_away, self.broker_hangs, self.registry_log_late]
        else:
            always = [self.kill_worker, self.leaders_move]
            quick += [self.leaders_move, self.one_of_the_brokers_hangs]
        long = [self.broker_restarts, self.broker_killed, self.zombie, self.zombie, self.leave_and_join]
        chosen = [*always, *self._rng.sample(quick, how_many - len(always) - 1), self._rng.choice(long)]
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
        """kill -9 of a worker: of the one that is the re-rater and the relay of dead letters, or of the other."""
        worker = self._any_worker()
        self._kill(worker)
        self._pause(0.0, 1.0)
        worker.start()
        worker.wait_ready()

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
        """A clean restart on the same log; of one of three brokers, where there are three."""
        self._restart_broker(ApacheKafka.stop)

    def broker_killed(self) -> None:
        """kill -9 of a broker, and a start on what it left."""
        self._restart_broker(ApacheKafka.kill)
        self.kills += 1

    def _restart_broker(self, how: Callable[[ApacheKafka], None]) -> None:
        if self._rig.cluster is not None:
            self._rig.cluster.restart(self._rng.choice(self._rig.cluster.brokers), how)
        elif isinstance(self._rig.kafka, ApacheKafka):
            how(self._rig.kafka)
            self._rig.kafka.start()

    def one_of_the_brokers_hangs(self) -> None:
        """It counts as dead, others lead in its place; then it goes on, and must not believe that it still leads."""
        cluster = self._cluster()
        broker = self._rng.choice(cluster.brokers)
        broker.hold()
        self._pause(0.5, 4.0)
        broker.let_go()
        cluster.wait_in_sync()

    def leaders_move(self) -> None:
        """Another broker leads the log of the registry, the groups, and some of the usage."""
        usage = self._rng.sample(range(USAGE_EVENTS.partitions), _USAGE_LEADERS_MOVED)
        places = [(REGISTRY_CHANGES.name, 0), (COORDINATION, 0), *((USAGE_EVENTS.name, number) for number in usage)]
        self._rng.shuffle(places)
        for topic, partition in places:
            self._cluster().move_leader(topic, partition)
            self.moves += 1

    def _cluster(self) -> ApacheCluster:
        assert self._rig.cluster is not None, "there is one broker alone"
        return self._rig.cluster

    def zombie(self) -> None:
        """A worker is stopped past its session, its partitions are taken over, and then it goes on."""
        worker = self._any_worker()
        worker.hold()
        self._admins.burst()
        began = time.monotonic()
        self._wait_advance()
        # By then nothing is held back: whatever the stopped worker had in flight is an old story.
        time.sleep(max(0.0, _PAST_SESSION_SECONDS - (time.monotonic() - began)))
        worker.let_go()
        worker.wait_ready()

    def leave_and_join(self) -> None:
        """A worker goes, in peace or by kill -9, the other has all the work, and it comes back."""
        worker = self._any_worker()
        if self._rng.random() < 0.5:
            self._kill(worker)
        else:
            worker.stop()
        self._pause(1.0, 2.0)
        worker.start()
        worker.wait_ready()

    def _any_worker(self) -> Service:
        return self._rng.choice(self._rig.workers)

    def _wait_advance(self) -> None:
        """Wait until every partition has been booked on, which only one that is not stopped can have done."""
        before = self._offsets()
        wait_for("every partition to be taken over", lambda: self._all_beyond(before))

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
