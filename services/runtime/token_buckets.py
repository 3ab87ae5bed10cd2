"""Token buckets: how often something may happen for each key, in this process, of bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_KEYS_MAX = 10_000


class TokenBuckets:
    """One bucket for each key. It holds ``burst`` tokens at most, and is filled with ``per_second``."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        keys_max: int = _KEYS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Beyond ``keys_max`` buckets the one that was used longest ago is forgotten, and is full when next asked."""
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Take a token, and return 0; or, where there is none, the seconds until there is one."""
        with self._lock:
            now = self._clock()
            held, since = self._buckets.pop(key, (float(self._burst), now))
            held = min(self._burst, held + (now - since) * self._per_second)
            taken = held >= 1
            self._buckets[key] = (held - taken, now)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
            return 0.0 if taken else (1 - held) / self._per_second
