"""Sending a trace at the pace at which it happened, or a multiple of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime


class Pacer:
    """Says how long to wait until an event is due: its distance from the first one, divided by ``speed``."""

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._clock = clock
        self._first: tuple[datetime, float] | None = None

    def seconds_until(self, at: datetime) -> float:
        """Seconds from now until the event of time ``at`` is due; 0 where it is late already."""
        if self._first is None:
            self._first = (at, self._clock())
        first_at, began = self._first
        due = began + (at - first_at).total_seconds() / self._speed
        return max(0.0, due - self._clock())
