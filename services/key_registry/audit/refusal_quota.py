"""How many refusals get into the audit log: enough to see an attack, too few to fill the disk with it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from services.runtime.logs import logger
from services.runtime.token_buckets import TokenBuckets

_log = logger(__name__)

_CALLERS_MAX = 10_000
# Of one caller 50 at once, then one every 10 s; of all together 1,000 at once, then one a second, which is at most
# 86,400 rows or about 50 MB a day from one process, whoever attacks.
_CALLER_BURST, _CALLER_PER_SECOND = 50, 0.1
_ALL_BURST, _ALL_PER_SECOND = 1_000, 1.0


class RefusalQuota:
    """Whether the next refusal of a caller is written, and how many were not since the last that was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_caller = TokenBuckets(_CALLER_PER_SECOND, _CALLER_BURST, keys_max=_CALLERS_MAX, clock=clock)
        self._of_all = TokenBuckets(_ALL_PER_SECOND, _ALL_BURST, clock=clock)
        self._lock = threading.Lock()
        self._omitted: OrderedDict[Hashable, int] = OrderedDict()

    def admit(self, caller: Hashable) -> int | None:
        """How many refusals of the caller were left out since the last; None where this one is left out as well."""
        admitted = self._of_caller.take(caller) == 0 and self._of_all.take(None) == 0
        with self._lock:
            omitted = self._omitted.pop(caller, 0)
            if admitted:
                return omitted
            self._omitted[caller] = omitted + 1
            if len(self._omitted) > _CALLERS_MAX:
                _, lost = self._omitted.popitem(last=False)
                _log.warning("refusals that no row of the audit log counts", refusals=lost)
            return None
