"""Prometheus metrics read from the ledger database (docs/contract.md, section 9): nothing is counted here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import StrEnum

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from schemas import metrics
from schemas.dead_letters import FOR_WANT_OF_A_PRICE
from schemas.metrics import Metric, Unit
from services.books.totals import SHOWN_AS
from services.domain.credits import MC_PER_CREDIT
from services.ledger.admission import DoorReason
from services.ledger.conservation import ConservationWatch
from services.runtime.metrics import Family, FromDatabase, Shown, counter, family, process_registry

_STATES = (
    metrics.REGISTRY_SEQ,
    metrics.RERATING_OLDEST,
    metrics.FEED_UNPLACED_OLDEST,
    metrics.OUTBOX_PENDING,
    metrics.OUTBOX_OLDEST,
    metrics.UNRATED_ENTRIES,
)
_OURS = (metrics.Service.LEDGER,)
_LETTERS = ("dead-letters",)

_SUMS = text("SELECT metric, labels, sum(value) AS value FROM ledger.metric_total GROUP BY metric, labels")
_REGISTRY_SEQ = text("SELECT coalesce(max(seq), 0) FROM ledger.registry_change")
_RERATING = text(
    "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8"
    " FROM ledger.registry_change, ledger.fence WHERE registry_change.seq > fence.rerated_seq"
)
_UNPLACED = text("SELECT coalesce(extract(epoch FROM now() - min(booked_at)), 0)::float8 FROM ledger.entry_batch")
_UNRATED = text(
    "SELECT reason, count(entry_id) FROM (VALUES ('no_price'), ('refused')) AS known (reason)"
    " LEFT JOIN ledger.unrated_entry USING (reason) GROUP BY reason ORDER BY reason"
)
_OUTBOX = text(
    "SELECT count(*), coalesce(extract(epoch FROM now() - min(failed_at)), 0)::float8"
    " FROM ledger.dead_letter WHERE relayed_at IS NULL"
)


def ledger_metrics(engine: Engine, conservation: ConservationWatch) -> CollectorRegistry:
    """The registry that /metrics shows: totals committed with the rows they count, and states that stand there.

    ``conservation`` is refreshed by a thread of its own.
    """

    def read() -> list[Family]:
        with engine.connect() as connection:
            return [*_totals(connection), *_states(connection)]

    registry = process_registry()
    registry.register(Shown([*SHOWN_AS.values(), *_STATES], FromDatabase(read, SQLAlchemyError)))
    registry.register(Shown([metrics.CONSERVATION_RESIDUAL], lambda: _residuals(conservation)))
    return registry


def _totals(connection: Connection) -> Iterable[Family]:
    series: defaultdict[Metric, list[tuple[list[str], float]]] = defaultdict(list)
    for name, labels, value in connection.execute(_SUMS):
        metric = SHOWN_AS.get(name)
        if metric is not None:
            number = int(value) / MC_PER_CREDIT if metric.unit is Unit.CREDITS else int(value)
            series[metric].append(([str(labels.get(label) or "") for label in metric.labels], number))
    return [family(metric, series[metric]) for metric in SHOWN_AS.values()]


def _states(connection: Connection) -> Iterable[Family]:
    seq = connection.execute(_REGISTRY_SEQ).scalar_one()
    behind = connection.execute(_RERATING).scalar_one()
    unplaced = connection.execute(_UNPLACED).scalar_one()
    pending, oldest = connection.execute(_OUTBOX).one()
    unrated = [((reason,), count) for reason, count in connection.execute(_UNRATED)]
    return [
        family(metrics.REGISTRY_SEQ, [(_OURS, seq)]),
        family(metrics.RERATING_OLDEST, [((), behind)]),
        family(metrics.FEED_UNPLACED_OLDEST, [((), unplaced)]),
        family(metrics.OUTBOX_PENDING, [(_LETTERS, pending)]),
        family(metrics.OUTBOX_OLDEST, [(_LETTERS, oldest)]),
        family(metrics.UNRATED_ENTRIES, unrated),
    ]


def _residuals(conservation: ConservationWatch) -> Iterable[Family]:
    residuals = conservation.residuals
    if residuals is None:
        return []
    by_partition = [((str(partition),), residual) for partition, residual in sorted(residuals.items())]
    return [family(metrics.CONSERVATION_RESIDUAL, by_partition)]


def door_refusals(registry: CollectorRegistry) -> Callable[[StrEnum], None]:
    """A counter of what this process refused at the door of usage events: what hears of each, and why.

    Unlike the totals it begins anew with the process: what was refused here is no row of any table.
    """
    refused = counter(metrics.DOOR_REFUSALS, registry)
    for reason in (*sorted(FOR_WANT_OF_A_PRICE), DoorReason.DEAD_LETTER_QUOTA):
        # From the start, so that the very first one is an increase.
        refused.labels(reason.value)
    return lambda reason: refused.labels(reason.value).inc()
