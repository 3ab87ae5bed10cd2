"""How long an event takes from the producer's ``send`` until its row is committed, at a steady rate of single events.

The whole stack runs on this machine, its worker and the producer included. Every few milliseconds the ledger is asked
how far each partition is booked; an event counts as booked when that first passes its offset, so what is told is a
little more than it takes. The embedded broker holds a fetch back for up to 100 ms and brings few small batches at a
time, which Apache Kafka does not: beyond some thousands a second it is the broker that is measured.

    python benchmarks/bench_latency.py --broker apache --rates 500 2000 8000 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import tempfile
import threading
import time
from collections import deque
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from brokers import BROKERS, stack_on
from psycopg import Connection
from worker import metering
from workload import event

from schemas.topics import USAGE_EVENTS
from services.local.processes import StopSwitch, stop_on_signals
from services.runtime.database import connect

_ORGANIZATIONS = 48
_LOOK_SECONDS = 0.005
_SLICE_SECONDS = 0.01
_BATCH_BYTES_MAX = 900_000
_WARM_UP_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0


def main() -> int:
    """Measure and print; 1 where not everything was booked."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rates", type=int, nargs="+", default=[500, 2_000, 8_000], help="events a second")
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--broker", choices=BROKERS, default="embedded", help="apache needs Java 17")
    asked = options.parse_args()
    switch = StopSwitch()
    print(f"{'events/s':>9}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'worst ms':>10}{'load':>7}")
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        stack_on(asked.broker, Path(folder), ["registry"], switch) as (stack, kafka, _),
        metering(stack, Path(folder) / "metering.log", BYOK_KAFKA_BOOTSTRAP=kafka),
        connect(stack.endpoints.ledger_dsn, "bench", autocommit=True) as ledger,
    ):
        numbers = count()
        _measure(kafka, ledger, numbers, asked.rates[0], _WARM_UP_SECONDS)
        return max([_show(rate, _measure(kafka, ledger, numbers, rate, asked.seconds)) for rate in asked.rates])


def _measure(kafka: str, ledger: Connection[Any], numbers: count[int], rate: int, seconds: float) -> list[float]:
    """The seconds that each event took; infinite for those that were not booked in time."""
    sent = _Sent(kafka, numbers, rate, seconds)
    sending = threading.Thread(target=sent.send)
    sending.start()
    took: list[float] = []
    deadline = time.monotonic() + seconds + _PATIENCE_SECONDS
    while (sending.is_alive() or any(sent.waiting.values())) and time.monotonic() < deadline:
        booked = dict(ledger.execute("SELECT partition, next_offset FROM ledger.source_partition").fetchall())
        now = time.monotonic()
        for partition, waiting in list(sent.waiting.items()):
            while waiting and waiting[0][0] < booked.get(partition, 0):
                took.append(now - waiting.popleft()[1])
        time.sleep(_LOOK_SECONDS)
    sending.join()
    return took + [math.inf] * (sent.events - len(took))


class _Sent:
    """Events that are on their way, by partition: offset, and when it was sent."""

    def __init__(self, kafka: str, numbers: count[int], rate: int, seconds: float) -> None:
        self.waiting: dict[int, deque[tuple[int, float]]] = {n: deque() for n in range(USAGE_EVENTS.partitions)}
        self._kafka, self._numbers, self._rate, self._seconds = kafka, numbers, rate, seconds
        self.events = 0

    def send(self) -> None:
        """At an even pace, in slices of a hundredth of a second; behind it, more at once."""
        asyncio.run(self._send())

    async def _send(self) -> None:
        # Records are put together by us, a batch for each partition and slice: a call for each event would take more of
        # this machine than the worker that is measured.
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, max_batch_size=_BATCH_BYTES_MAX, acks="all")
        await producer.start()
        began, under_way = time.monotonic(), set[asyncio.Task[None]]()
        while (passed := time.monotonic() - began) < self._seconds:
            due = int(passed * self._rate) - self.events
            self.events += due
            for partition, records in self._records(due).items():
                task = asyncio.create_task(self._send_batch(producer, partition, records))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(_SLICE_SECONDS)
        await asyncio.gather(*under_way)
        await producer.stop()

    def _records(self, due: int) -> dict[int, list[tuple[bytes, bytes]]]:
        by_partition: dict[int, list[tuple[bytes, bytes]]] = {}
        for number in islice(self._numbers, due):
            organization = number % _ORGANIZATIONS
            org_id = f"org-{organization}"
            record = org_id.encode(), orjson.dumps(event(org_id, number))
            by_partition.setdefault(organization % USAGE_EVENTS.partitions, []).append(record)
        return by_partition

    async def _send_batch(self, producer: AIOKafkaProducer, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        began, batch = time.monotonic(), producer.create_batch()
        for key, value in records:
            batch.append(key=key, value=value, timestamp=None)
        done = await (await producer.send_batch(batch, USAGE_EVENTS.name, partition=partition))
        self.waiting[partition].extend((done.offset + index, began) for index in range(len(records)))


def _show(rate: int, took: list[float]) -> int:
    cuts = quantiles([1000 * each for each in took], n=100)
    print(f"{rate:>9,}{cuts[49]:>9.0f}{cuts[89]:>9.0f}{cuts[98]:>9.0f}{1000 * max(took):>10.0f}", end="")
    print(f"{os.getloadavg()[0]:>7.1f}", flush=True)
    return int(math.inf in took)


if __name__ == "__main__":
    sys.exit(main())
