"""Waiting longer and longer for something that is away. Nothing is ever skipped because it was."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(*, first: float = 0.1, longest: float = 5.0) -> Iterator[float]:
    """Seconds to wait before each next try, without end: doubling from ``first`` up to ``longest``, with jitter."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secret
        delay = min(delay * 2, longest)
