"""How many of the events that were booked lately became dead letters. Pure: the clock is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_SLICES = 100
"""Events are forgotten in hundredths of the window, so that its memory does not grow with the traffic."""


class Limit(NamedTuple):
    """What is too much: a ``share`` of dead letters above this, among at least ``min_events`` within the window."""

    share: float
    window_seconds: int
    min_events: int


class Excess(NamedTuple):
    """What was counted within the window when it was too much."""

    events: int
    dead_letters: int


class _Slice(NamedTuple):
    number: int
    events: int
    dead_letters: int


class DeadLetterShare:
    """Counts over a sliding window. A duplicate counts as an event: what was sent twice is no bad event."""

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        """``clock`` tells seconds from any beginning, and never goes back."""
        self._limit = limit
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        self._events = 0
        self._dead_letters = 0

    def add(self, events: int, dead_letters: int) -> Excess | None:
        """Count one batch that was booked; what the window holds, where that is too much."""
        self._slide()
        number = self._number()
        before = self._slices.pop() if self._slices and self._slices[-1].number == number else _Slice(number, 0, 0)
        self._slices.append(_Slice(number, before.events + events, before.dead_letters + dead_letters))
        self._events += events
        self._dead_letters += dead_letters
        return Excess(self._events, self._dead_letters) if self._is_too_much() else None

    def clear(self) -> None:
        """Count anew."""
        self._slices.clear()
        self._events = self._dead_letters = 0

    def _is_too_much(self) -> bool:
        enough = self._events >= self._limit.min_events
        return enough and self._dead_letters > self._limit.share * self._events

    def _number(self) -> int:
        return int(self._clock() * _SLICES // self._limit.window_seconds)

    def _slide(self) -> None:
        oldest = self._number() - _SLICES + 1
        while self._slices and self._slices[0].number < oldest:
            gone = self._slices.popleft()
            self._events -= gone.events
            self._dead_letters -= gone.dead_letters
