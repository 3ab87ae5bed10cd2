"""What was leased is what is charged, whatever the registry's clock does."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.directory import Change, Credential, PlanHistory, directory_of
from services.domain.resolution import KeySource, Reason, Resolution, Use, resolve, resolve_unclaimed
from services.domain.scope import Interval, Plan, PlanPeriod, change_plan
from services.domain.usage import Claim
from services.key_registry.rules.clock import WAIT_MAX, ClockBehindLogError, reached, time_of_change, waited_out
from tests.factories import NOON, ORG, USER, card, credential

CARD = card("card-0")
MICROSECOND = timedelta(microseconds=1)

# Around nothing, around what is waited for, and hours.
_spans = st.one_of(
    st.integers(0, 3),
    st.integers(0, 3_000_000),
    st.integers(-2, 2).map(lambda near: WAIT_MAX // MICROSECOND + near),
    st.integers(1, 7_200).map(lambda seconds: seconds * 1_000_000),
)
_jumps = st.one_of(_spans, _spans.map(lambda span: -span))


class Clock:
    """A clock that is set while programs run, and goes faster or slower than their sleep."""

    def __init__(self, per_mille: int, during_sleep: list[int]) -> None:
        self.now = NOON
        self.slept = timedelta(0)
        self._per_mille = per_mille
        self._during_sleep = during_sleep

    @property
    def is_set_during_sleep(self) -> bool:
        return bool(self._during_sleep)

    def jump(self, microseconds: int) -> None:
        self.now += microseconds * MICROSECOND

    def read(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += timedelta(seconds=seconds)
        self.jump(int(seconds * 1_000 * self._per_mille))
        if self._during_sleep:
            self.jump(self._during_sleep.pop())


class Leased(NamedTuple):
    """A lease as it was given."""

    at: datetime
    plan: Plan
    resolution: Resolution


@dataclass
class Log:
    """The registry in small: two keys of one slot that follow each other, a plan, and the real rule of its times."""

    clock: Clock
    last_at: datetime = NOON
    changes: list[Change] = field(default_factory=lambda: [CARD])
    dated: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Of each change its time, and what the clock showed then."""
    plans: tuple[PlanPeriod, ...] = ()
    keys: list[Credential] = field(default_factory=list)

    leased_at: datetime = NOON

    def _now(self) -> datetime:
        told = max(self.last_at, self.leased_at)
        self.last_at = time_of_change(self.clock.read, told, self.clock.sleep)
        self.dated.append((self.last_at, self.clock.now))
        return self.last_at

    def switch(self, *, on: bool) -> None:
        now = self._now()
        is_on = bool(self.keys) and self.keys[-1].active[0].end is None
        if on and not is_on:
            self.keys.append(credential(f"key-{len(self.keys)}", active=(Interval(now, None),)))
        elif not on and is_on:
            last = self.keys.pop()
            self.keys.append(last._replace(active=(Interval(last.active[0].start, now),)))
        self.changes.extend(self.keys[-1:])

    def set_plan(self, plan: Plan) -> None:
        self.plans = change_plan(self.plans, plan, self._now())
        self.changes.append(PlanHistory(ORG, self.plans))

    def lease(self) -> Leased:
        at = waited_out(lambda: reached(self.clock.read(), self.last_at), self.clock.sleep)
        self.leased_at = max(at, self.leased_at)
        known = directory_of(enumerate(self.changes, start=1))
        return Leased(at, known.plan_at(ORG, at), resolve_unclaimed(use(at), known, CARD))


def use(at: datetime) -> Use:
    return Use(ORG, None, USER, "openai", at)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("jump"), _jumps),
        st.tuples(st.just("pass"), _spans),
        st.tuples(st.just("on"), st.none()),
        st.tuples(st.just("off"), st.none()),
        st.tuples(st.just("plan"), st.sampled_from(Plan)),
        st.tuples(st.just("lease"), st.none()),
        st.tuples(st.just("lease"), st.none()),
    ),
    max_size=25,
)


def run(log: Log, steps: list[tuple[str, object]]) -> list[Leased]:
    """All leases that were given, after something to lease was added."""
    leases = []
    for step, more in [("plan", Plan.PRO), ("on", None), *steps]:
        told = log.last_at if step == "lease" else max(log.last_at, log.leased_at)
        behind = log.clock.now < told
        slept = log.clock.slept
        # A refusal is right only where the clock is behind, or was set back while it was waited for.
        with suppress(ClockBehindLogError) if behind or log.clock.is_set_during_sleep else nullcontext():
            match step, more:
                case (("jump" | "pass"), int()):
                    log.clock.jump(more)
                case (("on" | "off"), _):
                    log.switch(on=step == "on")
                case "plan", Plan():
                    log.set_plan(more)
                case _:
                    leases.append(log.lease())
        assert log.clock.slept - slept <= WAIT_MAX
    return leases


@given(steps=_steps, per_mille=st.integers(900, 1_100), during_sleep=st.lists(_jumps, max_size=3))
def test_what_was_leased_is_what_is_charged(
    steps: list[tuple[str, object]], per_mille: int, during_sleep: list[int]
) -> None:
    log = Log(Clock(per_mille, during_sleep))
    leases = run(log, steps)
    # As metering knows it in the end, whatever came after the lease.
    known = directory_of(enumerate(log.changes, start=1))
    for leased in leases:
        assert known.plan_at(ORG, leased.at) is leased.plan
        ruled = resolve_unclaimed(use(leased.at), known, CARD)
        assert (ruled.key_source, ruled.reason) == (leased.resolution.key_source, leased.resolution.reason)
        key = leased.resolution.credential
        if key is not None:
            charged = resolve(use(leased.at), Claim(key.credential_id), known, CARD)
            assert (charged.key_source, charged.reason) == (KeySource.BYOK, Reason.CLAIMED_KEY)
            assert charged.credential is not None
            assert charged.credential.credential_id == key.credential_id


@given(steps=_steps, per_mille=st.integers(900, 1_100), during_sleep=st.lists(_jumps, max_size=3))
def test_changes_are_dated_in_order_and_never_ahead_of_the_clock(
    steps: list[tuple[str, object]], per_mille: int, during_sleep: list[int]
) -> None:
    log = Log(Clock(per_mille, during_sleep))
    run(log, steps)
    times = [at for at, _ in log.dated]
    assert times == sorted(set(times))
    assert all(at <= shown for at, shown in log.dated)


@given(ahead=_spans)
def test_a_clock_that_is_left_alone_is_waited_for_up_to_the_bound_and_no_longer(ahead: int) -> None:
    clock = Clock(1_000, [])
    due = NOON + ahead * MICROSECOND
    if due - NOON <= WAIT_MAX:
        assert waited_out(lambda: reached(clock.read(), due), clock.sleep) >= due
    else:
        with pytest.raises(ClockBehindLogError) as behind:
            waited_out(lambda: reached(clock.read(), due), clock.sleep)
        assert behind.value.by == due - NOON
        assert clock.slept == timedelta(0)
