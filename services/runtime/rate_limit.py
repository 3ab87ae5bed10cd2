"""How often one caller may ask an API."""

from __future__ import annotations

import math

from services.domain.permissions import Caller
from services.runtime.problems import Problem
from services.runtime.token_buckets import TokenBuckets


class RateLimit:
    """The rate of each caller of an API. An operator, who is an admin of every organization, has none."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._buckets = TokenBuckets(per_second, burst)

    def admit(self, caller: Caller) -> None:
        """Raise 429 ``rate_limited`` that says how long to wait, where the caller asks too often."""
        if caller.is_operator:
            return
        wait = self._buckets.take((caller.id, caller.org_id))
        if wait > 0:
            seconds = math.ceil(wait)
            raise Problem(
                429,
                "rate_limited",
                f"Too many requests; try again in {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )
