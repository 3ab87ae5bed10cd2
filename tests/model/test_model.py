"""Interleavings of the model: delays, duplicates, and kills between any two steps; and what each rule is there for."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.model.model import PARTITIONS, PROCESSES, Change, Event, Rules, World

_KEYS = ("a", "b")
_ACTORS = ("follow", "rerate", *(f"book {partition}" for partition in PARTITIONS))

_processes = st.sampled_from(PROCESSES)
_partitions = st.sampled_from(PARTITIONS)
_keys = st.sampled_from(_KEYS)


class Interleavings(RuleBasedStateMachine):
    """Any order of steps; whatever it was, the ledger is right once everything has come to rest."""

    kept = Rules()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.kept)
        self._events = 0

    @rule(partition=_partitions, key=_keys)
    def publish(self, partition: int, key: str) -> None:
        self._events += 1
        self.world.usage[partition].append(Event(self._events, key))

    @rule(partition=_partitions, which=st.integers(0, 50))
    def publish_again(self, partition: int, which: int) -> None:
        """The same event once more, perhaps on the other partition."""
        known = [event for log in self.world.usage.values() for event in log]
        if known:
            self.world.usage[partition].append(known[which % len(known)])

    @rule(key=_keys, value=st.integers(0, 2))
    def change(self, key: str, value: int) -> None:
        self.world.registry.append(Change(key, value))

    @rule(process=_processes, actor=st.sampled_from(_ACTORS), steps=st.integers(1, 6))
    def go_on(self, process: int, actor: str, steps: int) -> None:
        """One actor goes on for a while; whoever does not is delayed."""
        for _ in range(steps):
            self.world.processes[process].step(actor)

    @rule(process=_processes)
    def kill(self, process: int) -> None:
        self.world.processes[process].kill()

    @rule(process=_processes, partition=_partitions, back=st.integers(0, 3))
    def deliver_again(self, process: int, partition: int, back: int) -> None:
        """The stream begins again somewhere before, as after a rebalance."""
        positions = self.world.processes[process].positions
        positions[partition] = max(0, positions[partition] - back)

    @rule()
    def rest(self) -> None:
        self.world.come_to_rest()
        self.world.check()

    def teardown(self) -> None:
        self.rest()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("missing", [field.name for field in fields(Rules)])
def test_without_any_one_of_the_rules_the_ledger_goes_wrong(missing: str) -> None:
    class Lacking(Interleavings):
        kept = Rules(**{missing: False})

    # As they come, and not made small: it is enough to know that there is one.
    search = settings(
        max_examples=5_000,
        stateful_step_count=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError, match=r"should be|lost, or charged twice|covered twice"):
        run_state_machine_as_test(Lacking, settings=search)


def test_an_entry_booked_with_less_while_the_fence_is_raised_is_what_the_fence_prevents() -> None:
    """The race in one example, step by step."""
    assert _race(Rules()) == [2]
    assert _race(Rules(fence_is_checked=False, fence_waits=False)) == [0]


def _race(rules: Rules) -> list[int]:
    world = World(rules)
    slow, other = world.processes
    event = Event(1, "a")
    world.usage[0].append(event)
    # The slow worker has priced the event, and not yet booked it, when a change is followed and worked off.
    slow.step("book 0")
    slow.step("book 0")
    world.registry.append(Change("a", 2))
    while world.ledger.rerated < 1:
        other.step("follow")
        other.step("rerate")
    world.come_to_rest()
    return [world.ledger.entries[event][-1].value]
