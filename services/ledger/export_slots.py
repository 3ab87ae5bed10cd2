"""How many exports run at once: each holds a snapshot and a connection of the database as long as its client reads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from services.ledger.refusals import Code
from services.runtime.refusals import Refusal


class ExportSlots:
    """Places for exports, in all and of one organization, so that none takes all of them."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, org_id: str) -> Iterator[None]:
        """Hold one place of the organization's. Raises 503 ``busy`` at once where there is none."""
        with self._lock:
            if self._taken[org_id] >= self._most_of_one:
                raise _busy("Too many exports of this organization at once; try again when one of them has ended.")
            if self._taken.total() >= self._most:
                raise _busy("Too many exports at once; try again.")
            self._taken[org_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[org_id] -= 1
                # Names of organizations are not collected.
                self._taken += Counter()


def _busy(detail: str) -> Refusal:
    return Refusal(Code.BUSY, detail, retry_seconds=5)
