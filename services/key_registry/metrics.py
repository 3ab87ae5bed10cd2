"""The registry's Prometheus metrics (docs/contract.md, section 9), each read from the database it speaks of."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from enum import StrEnum

from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from schemas import metrics
from services.key_registry.database.sessions import Sessions
from services.key_registry.handlers.key_questions import Lease
from services.key_registry.rules.health import Outcome
from services.key_registry.rules.refusals import Code
from services.runtime.metrics import Family, FromDatabase, Shown, counter, family, histogram, process_registry
from services.runtime.refusals import Refusal

_SHOWN = (
    metrics.REGISTRY_SEQ,
    metrics.OUTBOX_PENDING,
    metrics.OUTBOX_OLDEST,
    metrics.ACTIVE_CREDENTIALS,
    metrics.FAILING_CREDENTIALS,
    metrics.REGISTRY_LOG_AHEAD,
    metrics.REGISTRY_CLOCK_DIFFERENCE,
)
_LEASE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OURS = (metrics.Service.KEY_REGISTRY,)
_CHANGES = ("registry-changes",)

# What waits has waited since it was written, or since the whole log had to be sent again.
_OUTBOX = text("""
    SELECT h.last_seq, h.last_seq - c.sent_seq,
      CASE WHEN l.seq IS NULL THEN 0
        ELSE greatest(0, extract(epoch FROM clock_timestamp() - greatest(l.changed_at, c.reset_at))) END::float8
    FROM registry.log_head h CROSS JOIN registry.relay_cursor c LEFT JOIN registry.log l ON l.seq = c.sent_seq + 1
""")
_AHEAD = text("""
    SELECT greatest(0, extract(epoch FROM greatest(l.last_at, a.last_at) - clock_timestamp()))::float8
    FROM registry.log_head l CROSS JOIN registry.audit_head a
""")
_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")
_ACTIVE = text("""
    SELECT scope_type, provider, count(*)
    FROM registry.credential JOIN registry.credential_interval USING (credential_id)
    WHERE active_to IS NULL GROUP BY 1, 2
""")


_FAILING = text("""
    SELECT provider, health_outcome, count(*)
    FROM registry.secret_version JOIN registry.credential USING (credential_id)
      JOIN registry.credential_interval USING (credential_id)
    WHERE health_outcome IN ('exhausted', 'rejected') AND restorable_until IS NULL AND destroyed_at IS NULL
      AND active_to IS NULL
    GROUP BY 1, 2
""")
_FAILED = (Outcome.EXHAUSTED, Outcome.REJECTED)


class LeaseOutcome(StrEnum):
    """What came of a lease."""

    OWN_KEY = "own_key"
    PLATFORM = "platform"
    REFUSED = "refused"
    FAILED = "failed"
    """No answer could be given, or the key that applies cannot be opened."""


_NO_ANSWER = (Code.CREDENTIAL_UNUSABLE, Code.CREDENTIAL_LOST)


class LeaseTimes:
    """How long leases took, by what came of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """They are shown with what else is in ``registry``."""
        self._seconds = histogram(metrics.LEASE, _LEASE_SECONDS, registry)
        for outcome in LeaseOutcome:
            # From the start, so that the very first one is an increase.
            self._seconds.labels(outcome.value)

    async def timed(self, lease: Awaitable[Lease]) -> Lease:
        """What ``lease`` returns, or its error."""
        began, outcome = time.perf_counter(), LeaseOutcome.FAILED
        try:
            leased = await lease
            outcome = LeaseOutcome.PLATFORM if leased.secret is None else LeaseOutcome.OWN_KEY
            return leased
        except Refusal as refusal:
            if refusal.code not in _NO_ANSWER:
                outcome = LeaseOutcome.REFUSED
            raise
        finally:
            self._seconds.labels(outcome.value).observe(time.perf_counter() - began)


class KeyReports:
    """How many reports of keys came, by what they said."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """They are shown with what else is in ``registry``."""
        self._reports = counter(metrics.KEY_REPORTS, registry)

    def count(self, provider: str, outcome: str) -> None:
        """One more."""
        self._reports.labels(provider, outcome).inc()


def registry_metrics(sessions: Sessions) -> CollectorRegistry:
    """What ``/metrics`` shows."""

    def read() -> list[Family]:
        with sessions.begin() as session:
            return _read(session)

    registry = process_registry()
    registry.register(Shown(_SHOWN, FromDatabase(read, SQLAlchemyError)))
    return registry


def _read(session: Session) -> list[Family]:
    connection = session.connection()
    last_seq, waiting, seconds = connection.execute(_OUTBOX).one()
    active = [((scope, provider), count) for scope, provider, count in connection.execute(_ACTIVE)]
    # Also where none fails: a number that comes out of nothing is no increase.
    failing = dict.fromkeys(((provider, outcome) for (_, provider), _ in active for outcome in _FAILED), 0)
    failing |= {(provider, Outcome(outcome)): count for provider, outcome, count in connection.execute(_FAILING)}
    ahead = connection.execute(_AHEAD).scalar_one()
    return [
        family(metrics.REGISTRY_SEQ, [(_OURS, last_seq)]),
        family(metrics.OUTBOX_PENDING, [(_CHANGES, waiting)]),
        family(metrics.OUTBOX_OLDEST, [(_CHANGES, seconds)]),
        family(metrics.ACTIVE_CREDENTIALS, active),
        family(metrics.FAILING_CREDENTIALS, failing.items()),
        family(metrics.REGISTRY_LOG_AHEAD, [((), ahead)]),
        family(metrics.REGISTRY_CLOCK_DIFFERENCE, [((), _difference(session))]),
    ]


def _difference(session: Session) -> float:
    before = time.time()
    theirs: float = session.connection().execute(_CLOCK).scalar_one()
    # What lies between the two readings of ours is no difference.
    return theirs - min(max(theirs, before), time.time())
