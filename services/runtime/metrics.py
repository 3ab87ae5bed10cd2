"""Prometheus collectors for the metrics of the contract; a process builds those that it shows (schemas/metrics.py)."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import accumulate
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from schemas import metrics
from schemas.metrics import Kind, Metric
from services.runtime.logs import logger
from services.runtime.release import release

_log = logger(__name__)

_REMEMBERED_SECONDS = 1.0
# Prometheus waits for ten seconds, and what else stands on the page is to reach it.
_PATIENCE_SECONDS = 3.0
_GIVEN_UP_SECONDS = 120.0

Family = GaugeMetricFamily | CounterMetricFamily
Histogram = prometheus_client.Histogram
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
    registry.register(Shown([metrics.BUILD_INFO], lambda: [family(metrics.BUILD_INFO, [((release(),), 1)])]))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def write_textfile(path: Path, families: Mapping[Metric, Series]) -> None:
    """Put gauges and counters into a file as node_exporter's textfile collector reads it, whole or not at all.

    Raises OSError.
    """
    registry = CollectorRegistry()
    registry.register(Shown(list(families), lambda: [family(metric, series) for metric, series in families.items()]))
    prometheus_client.write_to_textfile(str(path), registry)


def counter(metric: Metric, registry: CollectorRegistry) -> prometheus_client.Counter:
    """What this process counts by itself, from 0 when it starts."""
    return prometheus_client.Counter(metric.name, metric.help, metric.labels, registry=registry)


def histogram(metric: Metric, buckets: Sequence[float], registry: CollectorRegistry) -> Histogram:
    """What this process observes by itself, from when it starts."""
    return Histogram(metric.name, metric.help, metric.labels, buckets=buckets, registry=registry)


class Observed(Collector):
    """A histogram that takes many observations of one value at once. For one thread; others may read it."""

    def __init__(self, metric: Metric, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        """``buckets`` are upper bounds, in order; one without an end is added."""
        self._metric = metric
        self._buckets = (*buckets, math.inf)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def observe(self, labels: tuple[str, ...], value: float, times: int) -> None:
        """Note ``value`` so many times."""
        if labels not in self._counts:
            self._sums[labels] = 0.0
            self._counts[labels] = [0] * len(self._buckets)
        self._counts[labels][bisect_left(self._buckets, value)] += times
        self._sums[labels] += value * times

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The family without values."""
        return [HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family as it stands now."""
        (shown,) = self.describe()
        bounds = [floatToGoString(bound) for bound in self._buckets]  # type: ignore[no-untyped-call]
        for labels, counts in list(self._counts.items()):
            shown.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), self._sums[labels])
        return [shown]


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
    """Reads a database once a second at most, however often it is scraped; while it is away there is nothing.

    Nor is there where it does not answer within seconds: the one reading that is under way is not waited for.
    """

    def __init__(
        self, read: Callable[[], list[Family]], away: type[Exception], *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """``away`` is what ``read`` raises where the database cannot be read."""
        self._read, self._away = read, away
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._reading: Future[list[Family]] | None = None
        self._began = float("-inf")

    def __call__(self) -> list[Family]:
        """What stood there a second ago at most."""
        with self._lock:
            reading = self._latest()
            patience = max(0.0, self._began + self._patience_seconds - time.monotonic())
        try:
            return reading.result(patience)
        except TimeoutError:
            _log.warning("metrics cannot be read in time")
            return []

    def _latest(self) -> Future[list[Family]]:
        age = time.monotonic() - self._began
        # One that hangs holds a connection and a thread, so it is given up late: a server may be gone without a word.
        if self._reading is None or age > (_REMEMBERED_SECONDS if self._reading.done() else _GIVEN_UP_SECONDS):
            self._reading, self._began = Future(), time.monotonic()
            threading.Thread(target=self._settle, args=(self._reading,), name="metrics", daemon=True).start()
        return self._reading

    def _settle(self, reading: Future[list[Family]]) -> None:
        try:
            reading.set_result(self._read())
        except self._away as error:
            _log.warning("metrics cannot be read", error=type(error).__name__)
            reading.set_result([])
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            reading.set_exception(error)
