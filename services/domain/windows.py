"""When a change of the registry can have moved a price: the times at which the answer before and after it differ."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, assert_never

from services.domain.directory import Change, Credential, ModelAliases, PlanHistory
from services.domain.rate_card import RateCard, end_of_force
from services.domain.resolution import LEASE_LIFE
from services.domain.scope import Interval, Plan, PlanPeriod, Scope

_EVER = Interval(datetime.min.replace(tzinfo=UTC), None)
# A lease's life ends at an instant that still counts; a half-open interval has to end just after it.
_GRACE = LEASE_LIFE + timedelta(microseconds=1)


class Touched(NamedTuple):
    """Entries that a change can have moved: who, with which provider, when. None stands for any."""

    window: Interval
    org_id: str | None = None
    scope: Scope | None = None
    provider: str | None = None
    only_unrated: bool = False
    """Only entries that could not be rated anew before, and stand as they were."""


def touched(before: Change | None, after: Change, cards: Iterable[RateCard] = ()) -> list[Touched]:
    """What ``after`` can have moved, given what the same registry key said ``before``.

    ``cards`` are all rate cards that are known now: one ends where the next begins.
    """
    match after:
        case Credential():
            return _by_credential(before if isinstance(before, Credential) else None, after)
        case PlanHistory():
            return _by_plan(before.plans if isinstance(before, PlanHistory) else (), after)
        case ModelAliases():
            # What was priced had a name that a card lists, or that was known before: another one moves none of it.
            return [] if before == after else [Touched(_EVER, provider=after.provider, only_unrated=True)]
        case RateCard():
            return _by_card(before, after, cards)
        case _:
            assert_never(after)


def _by_card(before: Change | None, after: RateCard, cards: Iterable[RateCard]) -> list[Touched]:
    return [] if before == after else [Touched(Interval(after.effective_from, end_of_force(after, cards)))]


def _by_credential(before: Credential | None, after: Credential) -> list[Touched]:
    active_before = () if before is None else before.active
    windows = {
        *differences(active_before, after.active),
        *differences(map(_with_grace, active_before), map(_with_grace, after.active)),
    }
    return [Touched(window, after.org_id, after.scope, after.provider) for window in sorted(windows, key=_start)]


def _by_plan(before: tuple[PlanPeriod, ...], after: PlanHistory) -> list[Touched]:
    windows = {
        window
        for plan in Plan
        if plan is not Plan.FREE  # Free is what holds where nothing else does.
        for window in differences(_times_of(plan, before), _times_of(plan, after.plans))
    }
    return [Touched(window, after.org_id) for window in sorted(windows, key=_start)]


def _times_of(plan: Plan, periods: Iterable[PlanPeriod]) -> list[Interval]:
    return [period.interval for period in periods if period.plan is plan]


def _with_grace(interval: Interval) -> Interval:
    if interval.end is None or interval.is_empty:
        return interval
    return Interval(interval.start, interval.end + _GRACE)


def _start(interval: Interval) -> datetime:
    return interval.start


def differences(one: Iterable[Interval], other: Iterable[Interval]) -> list[Interval]:
    """The times that lie in exactly one of two sets of intervals, in order, as disjoint intervals."""
    changes: dict[datetime, list[int]] = {}
    for side, intervals in enumerate((one, other)):
        for interval in intervals:
            if interval.is_empty:
                continue
            changes.setdefault(interval.start, [0, 0])[side] += 1
            if interval.end is not None:
                changes.setdefault(interval.end, [0, 0])[side] -= 1
    return _where_one_holds(changes)


def _where_one_holds(changes: dict[datetime, list[int]]) -> list[Interval]:
    windows: list[Interval] = []
    depth = [0, 0]
    since: datetime | None = None
    for at in sorted(changes):
        depth = [depth[side] + changes[at][side] for side in (0, 1)]
        differs = (depth[0] > 0) != (depth[1] > 0)
        if differs and since is None:
            since = at
        elif not differs and since is not None:
            windows.append(Interval(since, at))
            since = None
    if since is not None:
        windows.append(Interval(since, None))
    return windows
