"""Months: this one against the last over as many days, and those that can be chosen from."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from typing import NamedTuple


class Days(NamedTuple):
    """From one day to another, both included."""

    first: date
    last: date


class Comparison(NamedTuple):
    """As many days of this month as of the last."""

    this: Days
    last: Days


def this_against_last(today: date) -> Comparison:
    """The days of this month that have begun, against as many of the last; in a longer month no more than that had."""
    before = month_before(today)
    elapsed = min(today.day, before.last.day)
    return Comparison(
        Days(today.replace(day=1), today.replace(day=elapsed)),
        Days(before.first, before.first.replace(day=elapsed)),
    )


def month_of(day: date) -> Days:
    """The whole month that a day lies in."""
    return Days(day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1]))


def month_before(day: date) -> Days:
    """The whole month before that of a day."""
    return month_of(day.replace(day=1) - timedelta(days=1))


def months_up_to(day: date, count: int) -> list[str]:
    """So many months as ``2026-11``, the newest first, which is that of the day."""
    found, month = [], month_of(day)
    for _ in range(count):
        found.append(f"{month.first:%Y-%m}")
        month = month_before(month.first)
    return found
