"""The registry's Prometheus metrics (docs/contract.md, section 9), each read from the database it speaks of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import sqlalchemy.exc
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlmodel import Session

from services.key_registry.database.sessions import Sessions
from services.runtime.logs import logger

_log = logger(__name__)

_CACHE_SECONDS = 1.0

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


class RegistryCollector(Collector):
    """Reads the gauges when they are asked for. While the database is away they are absent, never stale."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[GaugeMetricFamily] = []

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families without values, so that registering needs no database."""
        return _families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as of a second ago at most."""
        with self._lock:
            if time.monotonic() - self._read_at > _CACHE_SECONDS:
                self._families = self._read()
                self._read_at = time.monotonic()
            return self._families

    def _read(self) -> list[GaugeMetricFamily]:
        families = _families()
        try:
            with self._sessions.begin() as session:
                _fill(session, *families)
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
            _log.warning("metrics cannot be read", error=type(error).__name__)
            return _families()
        return families


def registry_metrics(sessions: Sessions) -> CollectorRegistry:
    """What ``/metrics`` shows."""
    metrics = CollectorRegistry()
    metrics.register(RegistryCollector(sessions))
    return metrics


def _families() -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily("byok_registry_seq", "The last change of the registry log.", labels=["service"]),
        GaugeMetricFamily("byok_outbox_pending", "Changes that the broker does not have yet.", labels=["outbox"]),
        GaugeMetricFamily("byok_outbox_oldest_seconds", "How long the oldest of them has waited.", labels=["outbox"]),
        GaugeMetricFamily("byok_active_credentials", "Keys that are switched on.", labels=["scope", "provider"]),
        GaugeMetricFamily("byok_registry_log_ahead_seconds", "How far its times are ahead of the clock.", labels=[]),
        GaugeMetricFamily(
            "byok_registry_clock_difference_seconds",
            "How far the clock of the database is ahead of this service's.",
            labels=[],
        ),
    ]


def _fill(
    session: Session,
    seq: GaugeMetricFamily,
    pending: GaugeMetricFamily,
    oldest: GaugeMetricFamily,
    active: GaugeMetricFamily,
    ahead: GaugeMetricFamily,
    difference: GaugeMetricFamily,
) -> None:
    last_seq, waiting, seconds = session.connection().execute(_OUTBOX).one()
    seq.add_metric(["key_registry"], last_seq)
    pending.add_metric(["registry-changes"], waiting)
    oldest.add_metric(["registry-changes"], seconds)
    for scope, provider, count in session.connection().execute(_ACTIVE):
        active.add_metric([scope, provider], count)
    ahead.add_metric([], session.connection().execute(_AHEAD).scalar_one())
    difference.add_metric([], _difference(session))


def _difference(session: Session) -> float:
    before = time.time()
    theirs: float = session.connection().execute(_CLOCK).scalar_one()
    # What lies between the two readings of ours is no difference.
    return theirs - min(max(theirs, before), time.time())
