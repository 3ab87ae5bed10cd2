"""Whose events are refused too often to take more of them for now, looked up in the ledger beside the requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from schemas.dead_letters import FOR_WANT_OF_A_PRICE
from services.runtime.background import repeat
from services.runtime.logs import logger

_log = logger(__name__)

_LOOK_SECONDS = 2.0
_ASKED_MAX = 1_000
_OURS = sorted(FOR_WANT_OF_A_PRICE)
"""What lacks a price does not count: publishing one is not the sender's to do."""

# Of those whose quota-and-first dead letter, counted from the newest, is no hour old: how long until it is.
_EXHAUSTED = text("""
SELECT asked.org_id, extract(epoch FROM letter.failed_at + interval '1 hour' - now())::float8 AS seconds
FROM unnest(CAST(:org_ids AS text[])) AS asked (org_id) CROSS JOIN LATERAL (
  SELECT failed_at FROM ledger.dead_letter
  WHERE org_id = asked.org_id AND failed_at > now() - interval '1 hour' AND reason <> ALL (CAST(:ours AS text[]))
  ORDER BY failed_at DESC OFFSET :quota LIMIT 1
) AS letter
""")


class DeadLetterQuota:
    """How many dead letters an organization may have within an hour before the door takes nothing more of it.

    Nobody waits for the database: a thread beside them looks for those that were asked about, so that a request says
    what was known seconds ago; and while the database is away, nobody new is refused.
    """

    def __init__(self, engine: Engine, per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_hour`` is what is still fine. ``clock`` tells seconds from any beginning, and never goes back."""
        self._engine = engine
        self._per_hour = per_hour
        self._clock = clock
        self._asked: set[str] = set()
        self._until: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every two seconds until ``stop`` is set."""
        repeat(self.look, _LOOK_SECONDS, stop)

    def waits(self, org_ids: Collection[str]) -> dict[str, float]:
        """Those of the organizations that have had too many, and for how many seconds it stays so."""
        now = self._clock()
        if len(self._asked) < _ASKED_MAX:
            self._asked.update(org_ids)
        left = {org_id: self._until.get(org_id, now) - now for org_id in org_ids}
        return {org_id: seconds for org_id, seconds in left.items() if seconds > 0}

    def look(self) -> None:
        """Find out about everybody who was asked for since the last look."""
        asked, self._asked = self._asked, set()
        now = self._clock()
        # Who is refused stays so until then: more dead letters only make it longer.
        waiting = {org_id: until for org_id, until in self._until.items() if until > now}
        found = self._exhausted(sorted(asked - waiting.keys()))
        self._until = waiting | {org_id: now + seconds for org_id, seconds in found.items()}
        if found:
            _log.warning("events are refused, for too many were dead letters", org_ids=sorted(found))

    def _exhausted(self, org_ids: list[str]) -> dict[str, float]:
        if not org_ids:
            return {}
        asked = {"org_ids": org_ids, "ours": _OURS, "quota": self._per_hour}
        try:
            with self._engine.connect() as connection:
                return {row.org_id: row.seconds for row in connection.execute(_EXHAUSTED, asked)}
        except SQLAlchemyError as error:
            _log.warning("dead letters cannot be counted", error=type(error).__name__)
            return {}
