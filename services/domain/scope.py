"""Who a key is for, which plan an organization is on, and the half-open intervals in which either holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeVar


class ScopeType(StrEnum):
    """The three levels at which a key can be added (help article, "Where to Add Your API Key")."""

    ORGANIZATION = "organization"
    TEAM = "team"
    PERSONAL = "personal"

    # Keys are looked up by it for every event, and an Enum's own hash is computed in Python.
    __hash__ = str.__hash__


class Plan(StrEnum):
    """What an organization pays for; it decides which levels of key apply."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"

    __hash__ = str.__hash__

    def allows(self, scope: ScopeType) -> bool:
        """Whether keys of this level apply: none on free, personal and team from pro on, organization on enterprise."""
        return scope in _ALLOWED[self]


_ALLOWED = {
    Plan.FREE: frozenset[ScopeType](),
    Plan.PRO: frozenset({ScopeType.TEAM, ScopeType.PERSONAL}),
    Plan.ENTERPRISE: frozenset(ScopeType),
}


class Scope(NamedTuple):
    """A level and the id of the organization, team or user that owns the key."""

    type: ScopeType
    id: str


class Interval(NamedTuple):
    """``[start, end)`` in UTC; an ``end`` of None is open."""

    start: datetime
    end: datetime | None

    def covers(self, at: datetime, *, grace: timedelta = timedelta(0)) -> bool:
        """Whether ``at`` lies inside; with ``grace``, also when the interval ended at most that long before ``at``."""
        if at < self.start or self.is_empty:
            return False
        return self.end is None or at < self.end or (bool(grace) and at - self.end <= grace)

    def overlaps(self, other: Interval) -> bool:
        """Whether some instant lies in both."""
        if self.is_empty or other.is_empty:
            return False
        starts_before_other_ends = other.end is None or self.start < other.end
        return starts_before_other_ends and (self.end is None or other.start < self.end)

    @property
    def is_empty(self) -> bool:
        """An interval that ends where it starts covers nothing, not even with grace."""
        return self.end is not None and self.end <= self.start


def any_covers(intervals: Iterable[Interval], at: datetime) -> bool:
    """Whether one of them ``covers`` it without grace, which no interval does that ends where it starts."""
    for start, end in intervals:  # noqa: SIM110  # a generator takes longer than all that it does here
        if start <= at and (end is None or at < end):
            return True
    return False


T = TypeVar("T")
Span = tuple[datetime, datetime, T]
"""The first instant at which something holds, the first at which it does not any more, and what it is."""
_NEVER = datetime.max.replace(tzinfo=UTC)


def span(interval: Interval, what: T) -> Span[T]:
    """What holds in an interval, prepared for ``holding``."""
    return interval.start, _NEVER if interval.end is None else interval.end, what


def holding(spans: Iterable[Span[T]], at: datetime) -> T | None:
    """The first that holds ``at``: in a span that its interval ``covers`` without grace."""
    for start, end, what in spans:
        if start <= at < end:
            return what
    return None


class PlanPeriod(NamedTuple):
    """One plan and the time in which it holds."""

    plan: Plan
    interval: Interval


def change_plan(periods: tuple[PlanPeriod, ...], plan: Plan, start: datetime) -> tuple[PlanPeriod, ...]:
    """The history with ``plan`` from ``start`` on, in place of whatever stood after it (docs/contract.md, section 8).

    A plan that already holds at ``start`` is simply continued, so that saying the same twice changes nothing.
    """
    kept = []
    for period in periods:
        if period.interval.start >= start:
            break
        end = period.interval.end
        kept.append(PlanPeriod(period.plan, Interval(period.interval.start, start if end is None else min(end, start))))
    if kept and kept[-1].plan is plan and kept[-1].interval.end == start:
        start = kept.pop().interval.start
    return (*kept, PlanPeriod(plan, Interval(start, None)))
