"""A plan history as it is stored, which is as it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from schemas.registry_changes import PlanInterval
from services.domain.scope import Interval, Plan, PlanPeriod


def plan_interval(period: PlanPeriod) -> PlanInterval:
    """One plan and when it holds, in UTC."""
    start, end = period.interval
    return PlanInterval(
        plan=period.plan.value, from_=start.astimezone(UTC), to=None if end is None else end.astimezone(UTC)
    )


def periods_to_json(periods: Iterable[PlanPeriod]) -> list[dict[str, Any]]:
    """The history as JSON."""
    return [plan_interval(period).model_dump(mode="json") for period in periods]


def periods_from_json(stored: Iterable[dict[str, Any]]) -> tuple[PlanPeriod, ...]:
    """The history as it was stored."""
    intervals = (PlanInterval.model_validate(item) for item in stored)
    return tuple(PlanPeriod(Plan(item.plan), Interval(item.from_, item.to)) for item in intervals)
