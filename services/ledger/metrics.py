"""Prometheus metrics read from the ledger database (docs/contract.md, section 9): nothing is counted here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from schemas.dead_letters import Reason
from services.domain.credits import MC_PER_CREDIT
from services.ledger.admission import DoorReason
from services.ledger.conservation import ConservationWatch
from services.runtime.logs import logger

_log = logger(__name__)

# The contract lists our metrics; when a series was created is none of them.
disable_created_metrics()  # type: ignore[no-untyped-call]

_CACHED_SECONDS = 1.0
_PRICED = ("event_type", "provider", "key_source", "byok_scope")


class _Total(NamedTuple):
    """How a metric of ``ledger.metric_total`` is exposed."""

    name: str
    """Without the ending ``_total``, which the format adds."""
    labels: tuple[str, ...]
    help: str
    unit: int = 1
    """What one of the exposed unit is in the table's."""


_TOTALS = {
    "usage_events": _Total("byok_usage_events", ("event_type", "outcome"), "Usage events by what became of them."),
    "list_mc": _Total("byok_list_credits", _PRICED, "Credits at list price, charges only.", MC_PER_CREDIT),
    "charged_mc": _Total("byok_charged_credits", _PRICED, "Credits charged, charges only.", MC_PER_CREDIT),
    "saved_mc": _Total("byok_saved_credits", _PRICED, "Credits saved by own keys, charges only.", MC_PER_CREDIT),
    "dead_letters": _Total("byok_dead_letters", ("reason",), "Events that were refused."),
    "credential_flags": _Total("byok_credential_flags", ("flag",), "Charges that carry a flag."),
    "corrections": _Total("byok_corrections", ("reason",), "Corrections after late knowledge."),
    "corrected_mc": _Total(
        "byok_corrected_credits", ("reason", "direction"), "Credits moved by corrections.", MC_PER_CREDIT
    ),
}

_SUMS = text("SELECT metric, labels, sum(value) AS value FROM ledger.metric_total GROUP BY metric, labels")
_REGISTRY_SEQ = text("SELECT coalesce(max(seq), 0) FROM ledger.registry_change")
_RERATING = text(
    "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8"
    " FROM ledger.registry_change, ledger.fence WHERE registry_change.seq > fence.rerated_seq"
)
_UNRATED = text(
    "SELECT reason, count(entry_id) FROM (VALUES ('no_price'), ('refused')) AS known (reason)"
    " LEFT JOIN ledger.unrated_entry USING (reason) GROUP BY reason ORDER BY reason"
)
_OUTBOX = text(
    "SELECT count(*), coalesce(extract(epoch FROM now() - min(failed_at)), 0)::float8"
    " FROM ledger.dead_letter WHERE relayed_at IS NULL"
)


class LedgerCollector(Collector):
    """Totals committed with the rows they count. While the database is away they are absent, never stale or zero."""

    def __init__(self, engine: Engine, conservation: ConservationWatch) -> None:
        """``conservation`` is refreshed by a thread of its own."""
        self._engine = engine
        self._conservation = conservation
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the database, and registering must not need it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, read at most once a second however often they are scraped."""
        with self._lock:
            if time.monotonic() - self._read_at > _CACHED_SECONDS:
                self._metrics = self._read()
                self._read_at = time.monotonic()
            metrics = list(self._metrics)
        yield from metrics
        yield from _residuals(self._conservation)

    def _read(self) -> list[Metric]:
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(_SUMS).all()
                seq = connection.execute(_REGISTRY_SEQ).scalar_one()
                behind = connection.execute(_RERATING).scalar_one()
                unrated = [tuple(row) for row in connection.execute(_UNRATED)]
                pending, oldest = connection.execute(_OUTBOX).one()
        except SQLAlchemyError as error:
            _log.warning("metrics cannot be read", error=type(error).__name__)
            return []
        totals = _families((row.metric, row.labels, int(row.value)) for row in rows)
        return [*totals, *_gauges(seq, behind, pending, oldest), _unrated(unrated)]


def _families(rows: Iterable[tuple[str, dict[str, str], int]]) -> list[Metric]:
    families = {
        metric: CounterMetricFamily(total.name, total.help, labels=total.labels) for metric, total in _TOTALS.items()
    }
    for metric, labels, value in rows:
        total = _TOTALS.get(metric)
        if total is not None:
            values = [str(labels.get(name) or "") for name in total.labels]
            families[metric].add_metric(values, value if total.unit == 1 else value / total.unit)
    return list(families.values())


def _gauges(seq: int, behind: float, pending: int, oldest: float) -> list[Metric]:
    known = GaugeMetricFamily("byok_registry_seq", "The last registry change that is known.", labels=["service"])
    known.add_metric(["ledger"], seq)
    late = GaugeMetricFamily(
        "byok_rerating_oldest_seconds", "Age of the oldest registry change that is not worked off yet; 0: none."
    )
    late.add_metric([], behind)
    count = GaugeMetricFamily("byok_outbox_pending", "Messages that wait to be relayed.", labels=["outbox"])
    count.add_metric(["dead-letters"], pending)
    age = GaugeMetricFamily("byok_outbox_oldest_seconds", "Age of the oldest of them; 0: none.", labels=["outbox"])
    age.add_metric(["dead-letters"], oldest)
    return [known, late, count, age]


def _unrated(counts: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(
        "byok_unrated_entries",
        "Entries that stand as they are because they could not be rated anew after a change.",
        labels=["reason"],
    )
    for reason, count in counts:
        family.add_metric([reason], count)
    return family


def _residuals(conservation: ConservationWatch) -> Iterator[Metric]:
    residuals = conservation.residuals
    if residuals is None:
        return
    family = GaugeMetricFamily(
        "byok_conservation_residual_events",
        "Offsets or events that a partition's books do not account for; anything but 0 is an alarm.",
        labels=["partition"],
    )
    for partition, residual in sorted(residuals.items()):
        family.add_metric([str(partition)], residual)
    yield family


def door_refusals(registry: CollectorRegistry) -> Callable[[StrEnum], None]:
    """A counter of what this process refused at the door of usage events: what hears of each, and why.

    Unlike the totals it begins anew with the process: what was refused here is no row of any table.
    """
    counter = Counter(
        "byok_door_refusals_total",
        "Usage events that were refused over HTTP although they are well-formed.",
        ["reason"],
        registry=registry,
    )
    for reason in (Reason.UNPRICED_MODEL, Reason.NO_RATE_CARD, DoorReason.DEAD_LETTER_QUOTA):
        # From the start, so that the very first one is an increase.
        counter.labels(reason.value)
    return lambda reason: counter.labels(reason.value).inc()


def ledger_metrics(engine: Engine, conservation: ConservationWatch) -> CollectorRegistry:
    """The registry that /metrics shows."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(engine, conservation))
    return registry
