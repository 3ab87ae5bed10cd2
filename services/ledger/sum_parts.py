"""Which stretch of time is answered from which roll-up, and which from the entries themselves. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from services.books.roll_ups import ROLL_UPS, Period, RollUp

# From the beginning of a period.
_INTO_THE_NEXT: dict[Period, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "month": timedelta(days=31),
}


class Window(NamedTuple):
    """From a time on, and before another, both in UTC; None: open."""

    start: datetime | None
    end: datetime | None

    @property
    def is_empty(self) -> bool:
        """Whether no time lies in it."""
        return self.start is not None and self.end is not None and self.start >= self.end


class Part(NamedTuple):
    """A stretch of time, and the roll-up that has all of it; None: the entries."""

    window: Window
    roll_up: RollUp | None


def serving(names: Iterable[str], periods: Collection[Period]) -> list[RollUp]:
    """Of roll-ups that know sums by these columns the cheapest of each of these periods, the longest period first."""
    wanted = set(names)
    able = [one for one in ROLL_UPS if wanted <= set(one.columns) and one.period in periods]
    return list({one.period: one for one in reversed(able)}.values())[::-1]


def parts(window: Window, roll_ups: Sequence[RollUp]) -> list[Part]:
    """The window cut up: whole periods of the first roll-up, of the next at either end, and entries for the rest.

    One part at least, also where the window is empty; else none is.
    """
    found = list(_parts(window, roll_ups))
    return found or [Part(window, None)]


def _parts(window: Window, roll_ups: Sequence[RollUp]) -> Iterable[Part]:
    if window.is_empty:
        return
    if not roll_ups:
        yield Part(window, None)
        return
    first, *finer = roll_ups
    whole = Window(_up(window.start, first.period), _down(window.end, first.period))
    if whole.is_empty:
        yield from _parts(window, finer)
        return
    if window.start is not None:
        yield from _parts(Window(window.start, whole.start), finer)
    yield Part(whole, first)
    if window.end is not None:
        yield from _parts(Window(whole.end, window.end), finer)


def _down(at: datetime | None, period: Period) -> datetime | None:
    if at is None:
        return None
    hour = at.replace(minute=0, second=0, microsecond=0)
    match period:
        case "hour":
            return hour
        case "day":
            return hour.replace(hour=0)
        case "month":
            return hour.replace(hour=0, day=1)
        case _:
            assert_never(period)


def _up(at: datetime | None, period: Period) -> datetime | None:
    down = _down(at, period)
    return down if down == at or down is None else _down(down + _INTO_THE_NEXT[period], period)


def joined(windows: Iterable[Window]) -> list[Window]:
    """The same times in as few windows as there can be. They must come in their order, and none may be open within."""
    found: list[Window] = []
    for window in windows:
        if found and found[-1].end == window.start:
            found[-1] = Window(found[-1].start, window.end)
        else:
            found.append(window)
    return found
