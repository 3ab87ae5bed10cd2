"""What the tests have sent, kept by themselves: the only thing that the oracle believes about usage."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

Wire = Mapping[str, Any]


class Identity(NamedTuple):
    """What makes two messages the same event (docs/contract.md, section 3)."""

    org_id: str
    source: str
    event_id: str


def identity(event: Wire) -> Identity:
    """The identity of a well-formed event."""
    return Identity(event["data"]["org_id"], event["source"], event["id"])


class Sent:
    """Events, repetitions and refusable ones, as they were acknowledged. For several threads."""

    def __init__(self) -> None:
        self.events: dict[Identity, Wire] = {}
        self.aborted: set[Identity] = set()
        """Events of transactions that were never committed: nobody may charge them."""
        self.elements = 0
        """How many events, in the sense of conservation, lie in the topic."""
        self.refusable: Counter[str] = Counter()
        """How many of them must become dead letters, by reason."""
        self._lock = threading.Lock()

    def valid(self, events: list[dict[str, Any]]) -> None:
        """Events that must be charged; once, however often they are sent."""
        with self._lock:
            self.elements += len(events)
            for event in events:
                self.events.setdefault(identity(event), event)

    def refused(self, reason: str) -> None:
        """One event that must become a dead letter."""
        with self._lock:
            self.elements += 1
            self.refusable[reason] += 1
