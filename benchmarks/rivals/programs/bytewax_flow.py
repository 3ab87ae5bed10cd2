"""Bytewax: its Kafka source, its cached lookup, and a sink of one's own, which is how its documentation writes to a
database. Offsets are kept by its recovery.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import bytewax.operators as op
import orjson
import psycopg
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import TTLCache
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from rivals.programs.agreed import SCHEMA, SECONDS
from rivals.programs.naive import Prices, Row, events_of, key_of
from rivals.programs.told import DSN, KAFKA, PRICES, USAGE


class _Writer(StatelessSinkPartition[Row]):
    def __init__(self) -> None:
        self._database = psycopg.connect(DSN, autocommit=True)

    def write_batch(self, items: list[Row]) -> None:
        copy = f"COPY {SCHEMA}.bytewax_flow (event_id, org_id, charged_mc, saved_mc) FROM STDIN"
        with self._database.cursor() as cursor, cursor.copy(copy) as target:
            for row in items:
                target.write_row(row)

    def close(self) -> None:
        self._database.close()


class _Table(DynamicSink[Row]):
    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Writer:
        return _Writer()


def _decoded(record: Any) -> list[dict[str, Any]]:
    return events_of(orjson.loads(record.value))


def get_flow() -> Dataflow:
    """The dataflow, and the connection on which keys are looked up."""
    database, prices = psycopg.connect(DSN, autocommit=True), Prices(PRICES)

    def is_own(key: str) -> bool:
        return database.execute(f"SELECT 1 FROM {SCHEMA}.own_key WHERE key = %s", (key,)).fetchone() is not None

    def charged(own_keys: TTLCache[str, bool], event: dict[str, Any]) -> Row:
        return prices.charge(event, own_key=own_keys.get(key_of(event)))

    flow = Dataflow("rivals")
    usage = kop.input("usage", flow, brokers=[KAFKA], topics=[USAGE])
    events = op.flat_map("decode", usage.oks, _decoded)
    rows = op.enrich_cached("charge", events, is_own, charged, ttl=timedelta(seconds=SECONDS))
    op.output("write", rows, _Table())
    return flow
