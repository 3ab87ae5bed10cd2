"""What a meter counts, for Prometheus: as text, or for the package prometheus_client where the runner has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from byok_sdk.spool import Counts


class Metric(NamedTuple):
    """One metric; none has labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str


METRICS = (
    Metric("byok_sdk_accepted_events_total", "counter", "Events that were recorded on disk."),
    Metric("byok_sdk_acknowledged_events_total", "counter", "Of these, those that the ledger has taken."),
    Metric("byok_sdk_rejected_events", "gauge", "Of these, those that it refused; they are set aside, and kept."),
    Metric("byok_sdk_waiting_events", "gauge", "Of these, those that are still to be sent."),
    Metric("byok_sdk_oldest_waiting_seconds", "gauge", "For how long the oldest of these has waited; 0: none waits."),
    Metric("byok_sdk_spool_bytes", "gauge", "What the events that are kept take."),
    Metric("byok_sdk_sending_failed", "gauge", "1 while the ledger takes nothing."),
    Metric("byok_sdk_changes_unheard", "gauge", "1 while leases end by their time alone."),
    Metric("byok_sdk_calls_not_recorded_total", "counter", "Calls that a hook told of in vain."),
)
"""All that is shown, in this order."""


class Shown(NamedTuple):
    """What there is to show."""

    counts: Counts
    sending_trouble: str | None = None
    changes_trouble: str | None = None
    calls_not_recorded: int = 0

    def values(self, now: float) -> tuple[float, ...]:
        """In the order of ``METRICS``; ``now`` in seconds since 1970."""
        counts = self.counts
        waited = 0.0 if counts.oldest_waiting is None else max(0.0, now - counts.oldest_waiting)
        return (
            counts.accepted,
            counts.acknowledged,
            counts.rejected,
            counts.waiting,
            round(waited, 3),
            counts.held_bytes,
            int(self.sending_trouble is not None),
            int(self.changes_trouble is not None),
            self.calls_not_recorded,
        )


def prometheus_text(shown: Shown) -> str:
    """In Prometheus' text format."""
    lines: list[str] = []
    for (name, kind, told), value in zip(METRICS, shown.values(time.time()), strict=True):
        lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}", f"{name} {value:.15g}"]
    return "\n".join([*lines, ""])


def collector(look: Callable[[], Shown]) -> Any:
    """Something to register with prometheus_client: ``REGISTRY.register(collector(meter.shown))``."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    class _Collector:
        def collect(self) -> Iterator[Any]:
            for (name, kind, told), value in zip(METRICS, look().values(time.time()), strict=True):
                family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                yield family(name, told, value=value)

    return _Collector()
