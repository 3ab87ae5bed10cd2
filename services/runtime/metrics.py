"""Prometheus collectors for the metrics of the contract; a process builds those that it shows (schemas/metrics.py)."""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import prometheus_client
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from schemas import metrics
from schemas.metrics import Kind, Metric
from services.runtime.logs import logger

_log = logger(__name__)

_REMEMBERED_SECONDS = 1.0

Family = GaugeMetricFamily | CounterMetricFamily
Series = Iterable[tuple[Sequence[str], float]]
"""The values of the labels, in the metric's order of them, and the number."""

# The contract lists our metrics; when a series was created is none of them.
disable_created_metrics()  # type: ignore[no-untyped-call]


def family(metric: Metric, series: Series = ()) -> Family:
    """A gauge or a counter as it stands now."""
    kind = {Kind.GAUGE: GaugeMetricFamily, Kind.COUNTER: CounterMetricFamily}[metric.kind]
    made: Family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, number in series:
        made.add_metric(labels, number)
    return made


def process_registry() -> CollectorRegistry:
    """A registry that shows the release and what the operating system knows of this process, and takes what is ours."""
    registry = CollectorRegistry()
    version = importlib.metadata.version("byok-credit-metering")
    registry.register(Shown([metrics.BUILD_INFO], lambda: [family(metrics.BUILD_INFO, [((version,), 1)])]))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def counter(metric: Metric, registry: CollectorRegistry) -> prometheus_client.Counter:
    """What this process counts by itself, from 0 when it starts."""
    return prometheus_client.Counter(metric.name, metric.help, metric.labels, registry=registry)


def histogram(metric: Metric, buckets: Sequence[float], registry: CollectorRegistry) -> prometheus_client.Histogram:
    """What this process observes by itself, from when it starts."""
    return prometheus_client.Histogram(metric.name, metric.help, metric.labels, buckets=buckets, registry=registry)


class Shown(Collector):
    """Metrics that are read when somebody asks for them."""

    def __init__(self, metrics: Sequence[Metric], read: Callable[[], Iterable[Family]]) -> None:
        """``read`` may leave some of ``metrics`` out; then they are absent."""
        self._metrics, self._read = metrics, read

    def describe(self) -> Iterable[Family]:
        """The families without values, so that registering reads nothing."""
        return map(family, self._metrics)

    def collect(self) -> Iterable[Family]:
        """The families as they stand now."""
        return self._read()


class FromDatabase:
    """Reads a database once a second at most, however often it is scraped; while it is away there is nothing."""

    def __init__(self, read: Callable[[], list[Family]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[Family] = []

    def __call__(self) -> list[Family]:
        """What stood there a second ago at most."""
        with self._lock:
            if time.monotonic() - self._read_at > _REMEMBERED_SECONDS:
                self._families = self._now()
                self._read_at = time.monotonic()
            return self._families

    def _now(self) -> list[Family]:
        try:
            return self._read()
        except SQLAlchemyError as error:
            _log.warning("metrics cannot be read", error=type(error).__name__)
            return []
