"""What a metering worker knows of itself. Totals of events and credits are the ledger service's to show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import ReadRecord
from services.metering.dead_letters.share import Origin

# A producer that sets no time sends 0 or -1; what is further off than clocks are is no time either.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_AHEAD_MAX_SECONDS = 86_400
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


# The contract lists our metrics; when a series was created is none of them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class MeteringMetrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(
        self,
        registry_seq: Callable[[], int],
        lag: Callable[[], dict[int, int]],
        paused: Callable[[], bool],
        failing: Callable[[], Collection[Origin]],
    ) -> None:
        """``lag`` says, for each partition at work, how many records are not yet booked."""
        self.registry = CollectorRegistry()
        self._event_to_ledger = Histogram(
            "byok_event_to_ledger_seconds",
            "From the Kafka record's timestamp to the commit of its ledger entry.",
            ["event_type"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        Gauge(
            "byok_registry_seq", "The last registry change that is known here.", ["service"], registry=self.registry
        ).labels("metering").set_function(registry_seq)
        Gauge(
            "byok_metering_paused",
            "1 while this worker books nothing because too many events became dead letters; else 0.",
            registry=self.registry,
        ).set_function(paused)
        one_sided = Gauge(
            "byok_failing_origins",
            "Organizations, and sources, of whose own events too many became dead letters lately.",
            ["kind"],
            registry=self.registry,
        )
        one_sided.labels("organization").set_function(lambda: sum(each.org_id is not None for each in failing()))
        one_sided.labels("source").set_function(lambda: sum(each.source is not None for each in failing()))
        self._unreadable = Counter(
            "byok_unreadable_records_total",
            "Records that became dead letters because the bytes in the log cannot be read, since this worker started.",
            registry=self.registry,
        )
        self.registry.register(_Lag(lag))

    def observe(self, records: Sequence[ReadRecord], now: float) -> None:
        """Note how long the events of booked records took; ``now`` in seconds since 1970.

        Records whose timestamp cannot be, before the year 2000 or more than a day ahead, are left out.
        """
        self._unreadable.inc(sum(read.record.unreadable is not None for read in records))
        for read in records:
            if not _EARLIEST <= read.record.timestamp <= now + _AHEAD_MAX_SECONDS:
                continue
            seconds = max(0.0, now - read.record.timestamp)
            for element in read.elements:
                if element.event is not None:
                    self._event_to_ledger.labels(element.event.type.value).observe(seconds)


class _Lag(Collector):
    def __init__(self, lag: Callable[[], dict[int, int]]) -> None:
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "byok_consumer_lag_events", "Records that are not yet booked.", labels=["topic", "partition"]
        )
        for partition, behind in sorted(self._lag().items()):
            family.add_metric([USAGE_EVENTS.name, str(partition)], behind)
        yield family
