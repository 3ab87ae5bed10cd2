"""Workers, re-raters, fence and ledger as a small pure model: every ``yield`` is a point where others may go on.

It is docs/design.md, decisions 5 and 6, and nothing else: no SQL, no prices (an event has that of its key), no
clock. Each actor is a generator; killing one closes it, which rolls back what it had not committed and lets go of its
locks, as PostgreSQL does for a session that is gone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

PARTITIONS = (0, 1)
PROCESSES = (0, 1)
_BATCH = 2
_REST_STEPS = 20_000

Actor = Generator[None, None, None]


class Event(NamedTuple):
    """One event: what it is called, and by which registry key it is priced."""

    identity: int
    key: str


class Change(NamedTuple):
    """One change of the registry: from then on, ``key`` says ``value``."""

    key: str
    value: int


class Revision(NamedTuple):
    """What the ledger says of an event: its price, and how much of the registry's log was known."""

    value: int
    seq: int


@dataclass(frozen=True)
class Rules:
    """What keeps the ledger right. Tests take one away and see that it is missed."""

    fence_is_checked: bool = True
    """A batch that was priced with less than the fence asks for is not booked."""
    fence_waits: bool = True
    """The fence is raised only when no batch is on its way past it."""
    fence_comes_first: bool = True
    """Entries are looked at only once the fence is raised."""
    states_between_count: bool = True
    """The re-rater looks at what a key said in between, not only at what it said when it looked before."""
    positions_are_compared: bool = True
    """A batch is booked only where the partition still stands where the batch begins."""


@dataclass
class Ledger:
    """The database: what is committed, and who holds which lock."""

    entries: dict[Event, list[Revision]] = field(default_factory=dict)
    charges: list[Event] = field(default_factory=list)
    """In the order of booking, so that a second charge would show even where the first one is found again."""
    positions: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    covered: int = 0
    followed: int = 0
    """How much of the registry's log the ledger has a copy of."""
    fence: int = 0
    rerated: int = 0
    passing: set[object] = field(default_factory=set)
    """Who holds the fence's lock shared."""
    raising: object | None = None
    """Who holds it alone, or waits to: nobody new gets by, for the lock is fair."""
    rows: dict[object, object] = field(default_factory=dict)
    """Locked rows (partitions) and events inserted and not yet committed, by who did it."""
    leader: object | None = None


class World:
    """Topics, ledger, and two processes that each follow the registry, book both partitions, and want to re-rate."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self.rules = rules
        self.ledger = Ledger()
        self.usage: dict[int, list[Event]] = {partition: [] for partition in PARTITIONS}
        self.registry: list[Change] = []
        self.processes = [Process(self) for _ in PROCESSES]

    def value(self, key: str, seq: int) -> int:
        """What ``key`` says in the first ``seq`` changes; 0 where it says nothing."""
        return next((change.value for change in reversed(self.registry[:seq]) if change.key == key), 0)

    def come_to_rest(self) -> None:
        """Let everyone go on, in turn, until nothing is left to do."""
        for _ in range(_REST_STEPS):
            if self._at_rest():
                return
            for process in self.processes:
                for name in process.actors:
                    process.step(name)
        raise AssertionError(f"it does not come to rest: {self.ledger}")

    def _at_rest(self) -> bool:
        ledger = self.ledger
        booked = all(ledger.positions[partition] >= len(log) for partition, log in self.usage.items())
        return booked and not ledger.rows and ledger.rerated == ledger.followed == len(self.registry)

    def check(self) -> None:
        """At rest: each event charged once, and its last revision what full knowledge says."""
        sent = {event for log in self.usage.values() for event in log}
        assert sorted(self.ledger.charges) == sorted(sent), "an event is lost, or charged twice"
        assert self.ledger.covered == sum(map(len, self.usage.values())), "offsets are covered twice, or not at all"
        for event, revisions in self.ledger.entries.items():
            should = self.value(event.key, len(self.registry))
            assert revisions[-1].value == should, f"{event} is {revisions}, and should be {should}"


class Process:
    """One worker process. Killed, it forgets what it knew, and starts again with what the ledger has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.start()

    def start(self) -> None:
        """Read the ledger's copy of the registry's log, and how far the partitions are booked."""
        ledger = self._world.ledger
        self.known = ledger.followed
        self.positions = dict(ledger.positions)
        self.actors: dict[str, Actor] = {
            "follow": self._follow(),
            "rerate": self._rerate(),
            **{f"book {partition}": self._book(partition) for partition in PARTITIONS},
        }

    def step(self, name: str) -> None:
        """Let one of its actors go on to its next point."""
        next(self.actors[name])

    def kill(self) -> None:
        """End it wherever it is, and start it again."""
        for actor in self.actors.values():
            actor.close()
        self.start()

    def _follow(self) -> Actor:
        """Every change is in the ledger before it is used."""
        world, ledger = self._world, self._world.ledger
        while True:
            yield
            if self.known < len(world.registry):
                ledger.followed = max(ledger.followed, self.known + 1)
                yield
                self.known += 1

    def _book(self, partition: int) -> Actor:
        world = self._world
        while True:
            yield
            start = self.positions[partition]
            batch = world.usage[partition][start : start + _BATCH]
            if batch and (yield from self._book_batch(partition, start, batch)):
                self.positions[partition] = start + len(batch)

    def _book_batch(self, partition: int, start: int, batch: list[Event]) -> Generator[None, None, bool]:
        """One batch, priced again until the fence lets it through; False where the partition is somewhere else."""
        while True:
            seq = self.known
            priced = [(event, Revision(self._world.value(event.key, seq), seq)) for event in batch]
            yield
            with self._session() as me:
                if not (yield from self._pass_fence(me, seq)):
                    continue
                return (yield from self._transaction(me, partition, start, priced))

    def _pass_fence(self, me: object, seq: int) -> Generator[None, None, bool]:
        ledger, rules = self._world.ledger, self._world.rules
        while ledger.raising is not None:
            yield
        ledger.passing.add(me)
        yield
        return ledger.fence <= seq or not rules.fence_is_checked

    def _transaction(
        self, me: object, partition: int, start: int, priced: list[tuple[Event, Revision]]
    ) -> Generator[None, None, bool]:
        ledger, rules = self._world.ledger, self._world.rules
        yield from self._lock(me, [partition])
        if ledger.positions[partition] != start and rules.positions_are_compared:
            self.positions[partition] = ledger.positions[partition]
            return False
        yield
        # Inserted, and not yet seen by anyone; another who inserts the same event waits for how this one ends.
        yield from self._lock(me, [event for event, _ in priced])
        yield
        ledger.positions[partition] = start + len(priced)
        ledger.covered += len(priced)
        for event, revision in priced:
            if event not in ledger.entries:
                ledger.entries[event] = [revision]
                ledger.charges.append(event)
        return True

    def _lock(self, me: object, rows: list[object]) -> Actor:
        ledger = self._world.ledger
        while any(ledger.rows.get(row, me) is not me for row in rows):
            yield
        ledger.rows.update(dict.fromkeys(rows, me))

    def _rerate(self) -> Actor:
        world, ledger, me = self._world, self._world.ledger, object()
        while ledger.leader is not None:
            yield
        ledger.leader = me
        try:
            while True:
                yield
                if ledger.rerated < ledger.followed:
                    yield from self._work_off(world, ledger)
        finally:
            ledger.leader = None

    def _work_off(self, world: World, ledger: Ledger) -> Actor:
        head, rerated = ledger.followed, ledger.rerated
        keys = self._touched(rerated, head)
        yield
        early = [] if world.rules.fence_comes_first else self._seen(keys, head)
        yield
        yield from self._raise_fence(head)
        yield
        for event, count in self._seen(keys, head) if world.rules.fence_comes_first else early:
            yield
            revisions, should = ledger.entries[event], world.value(event.key, head)
            # The revision's number is part of its key: whoever comes second has to look again.
            if len(revisions) == count and revisions[-1].value != should:
                revisions.append(Revision(should, head))
        yield
        ledger.rerated = max(ledger.rerated, head)

    def _touched(self, rerated: int, head: int) -> set[str]:
        """The keys that said something else, at some time since the last look, than they say now."""
        world = self._world
        since = range(rerated, head) if world.rules.states_between_count else [rerated]
        keys = {change.key for change in world.registry[rerated:head]}
        return {key for key in keys if any(world.value(key, seq) != world.value(key, head) for seq in since)}

    def _seen(self, keys: set[str], head: int) -> list[tuple[Event, int]]:
        entries = self._world.ledger.entries.items()
        return [(event, len(known)) for event, known in entries if event.key in keys and known[-1].seq < head]

    def _raise_fence(self, head: int) -> Actor:
        ledger, me = self._world.ledger, object()
        if not self._world.rules.fence_waits:
            ledger.fence = max(ledger.fence, head)
            return
        ledger.raising = me
        try:
            while ledger.passing:
                yield
            ledger.fence = max(ledger.fence, head)
        finally:
            ledger.raising = None

    @contextmanager
    def _session(self) -> Iterator[object]:
        """A transaction: whatever ends it, its locks go, and what was not committed was never there."""
        ledger, me = self._world.ledger, object()
        try:
            yield me
        finally:
            ledger.passing.discard(me)
            ledger.rows = {row: owner for row, owner in ledger.rows.items() if owner is not me}
