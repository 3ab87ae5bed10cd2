"""How the clock stands to what was said before: what was leased is what is charged, whatever the clock does.

A clock may be set back. A change dated after the clock would count later than its key is leased: the event says when by
the clock, finds no key yet, and the full price is charged. And a change dated before a lease that was given would take
back what was leased. So a change counts from a time after every earlier change and every lease, and never ahead of the
clock; a lease is given at a time by which every change counts. A small difference is waited out; with a larger one
changes and leases are refused until the clock has come up, for nobody can say which of the two is wrong.

There is one clock, that of the registry's database: those of its instances decide nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

WAIT_MAX = timedelta(seconds=2)
"""How far the log may be ahead before it is no longer waited for: less than others wait for the log (5 s)."""

_ONE_MICROSECOND = timedelta(microseconds=1)
_STEP_MIN = timedelta(milliseconds=1)

_T = TypeVar("_T")


class ClockBehindLogError(Exception):
    """The clock shows a time before that of the last change or lease; ``by`` is by how much."""

    def __init__(self, by: timedelta) -> None:
        """``by`` is more than zero."""
        super().__init__(f"the registry's log is {by.total_seconds():.6f} s ahead of its database's clock")
        self.by = by


def reached(clock: datetime, due: datetime) -> datetime:
    """``clock``, if it has come to ``due``. Raises ClockBehindLogError where it has not."""
    if clock < due:
        raise ClockBehindLogError(due - clock)
    return clock


def time_of_change(
    clock: Callable[[], datetime], told: datetime, sleep: Callable[[float], object] = time.sleep
) -> datetime:
    """When a change takes effect: after ``told``, the time of the last change or lease, and not ahead of the clock.

    Waits as ``waited_out`` does, and raises what it raises.
    """
    return waited_out(lambda: reached(clock(), after(told)), sleep)


def after(told: datetime) -> datetime:
    """The first instant after ``told``."""
    return told + _ONE_MICROSECOND


def waited_out(attempt: Callable[[], _T], sleep: Callable[[float], object] = time.sleep) -> _T:
    """What ``attempt`` returns, tried again while the clock is behind by little; ``sleep`` takes seconds.

    Raises ClockBehindLogError where that would take more than WAIT_MAX in all.
    """
    left = WAIT_MAX
    while True:
        try:
            return attempt()
        except ClockBehindLogError as behind:
            # A clock that is slowed down needs a little longer than it is behind.
            step = max(behind.by, _STEP_MIN)
            if step > left:
                raise
        left -= step
        sleep(step.total_seconds())
