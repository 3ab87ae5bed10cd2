"""What a metering worker knows of itself. Totals of events and credits are the ledger service's to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from schemas import metrics
from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import ReadRecord
from services.metering.dead_letters.share import Origin
from services.runtime.metrics import Family, Observed, Shown, counter, family, histogram, process_registry

# A producer that sets no time sends 0 or -1; what is further off than clocks are is no time either.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_AHEAD_MAX_SECONDS = 86_400
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_EVENTS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)

_STATES = (metrics.REGISTRY_SEQ, metrics.METERING_PAUSED, metrics.FAILING_ORIGINS, metrics.CONSUMER_LAG)


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
        self.registry = process_registry()
        self._event_to_ledger = Observed(metrics.EVENT_TO_LEDGER, _SECONDS, self.registry)
        self._commit = histogram(metrics.COMMIT, _COMMIT_SECONDS, self.registry)
        self._batch = histogram(metrics.BATCH, _BATCH_EVENTS, self.registry)
        self._unreadable = counter(metrics.UNREADABLE_RECORDS, self.registry)

        def read() -> list[Family]:
            origins = failing()
            kinds = {
                "organization": sum(each.org_id is not None for each in origins),
                "source": sum(each.source is not None for each in origins),
            }
            behind = [((USAGE_EVENTS.name, str(partition)), records) for partition, records in sorted(lag().items())]
            return [
                family(metrics.REGISTRY_SEQ, [((metrics.Service.METERING,), registry_seq())]),
                family(metrics.METERING_PAUSED, [((), int(paused()))]),
                family(metrics.FAILING_ORIGINS, [((kind,), count) for kind, count in kinds.items()]),
                family(metrics.CONSUMER_LAG, behind),
            ]

        self.registry.register(Shown(_STATES, read))

    def observe(self, records: Sequence[ReadRecord], now: float, commit_seconds: float) -> None:
        """Note one transaction, and how long the events of its records took; ``now`` in seconds since 1970.

        Records whose timestamp cannot be, before the year 2000 or more than a day ahead, are left out.
        """
        self._commit.observe(commit_seconds)
        self._batch.observe(sum(len(read.elements) for read in records))
        self._unreadable.inc(sum(read.record.unreadable is not None for read in records))
        counted = Counter(
            [
                (read.record.timestamp, element.event.type)
                for read in records
                for element in read.elements
                if element.event is not None
            ]
        )
        for (timestamp, event_type), times in counted.items():
            if _EARLIEST <= timestamp <= now + _AHEAD_MAX_SECONDS:
                self._event_to_ledger.observe((event_type.value,), max(0.0, now - timestamp), times)
