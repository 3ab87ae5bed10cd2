"""The whole replay: one snapshot of the ledger, the topic up to what it has booked, and the comparison of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from services.books import columns, registry_log
from services.domain.directory import Directory
from services.proof.replay.booking import book_topic
from services.proof.replay.comparison import SUMS, Account, Comparison, Evidence, Place, accounts, compare
from services.proof.replay.shadow import shadow_ledger
from services.proof.replay.shadow_writer import ShadowWriter
from services.proof.replay.topic import TopicReader
from services.proof.verify import BY_IDENTITY, Report, snapshot
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess

_REST_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.2
_FETCHED_ROWS = 5_000
_SAID_EVERY = 1_000

_AT_REST = f"SELECT rerated_seq, {registry_log.NEWEST} FROM ledger.fence"
_BOOKED = "SELECT partition, next_offset FROM ledger.source_partition WHERE cluster_id = %s AND topic = %s"
_CLUSTERS = "SELECT DISTINCT cluster_id FROM ledger.source_partition WHERE topic = %s ORDER BY cluster_id"
_ENTRIES = f"""
SELECT {columns.listed((*columns.IDENTITY, "kind", "payload_hash", *SUMS, *columns.ATTRIBUTION), "e")},
  p.partition, e.source_offset, e.source_index
FROM ledger.entry e LEFT JOIN ledger.source_partition p
  ON p.source_partition_id = e.source_partition_id AND p.cluster_id = %(cluster)s AND p.topic = %(topic)s
ORDER BY {BY_IDENTITY}
"""
_REFUSED = """
SELECT d.reason FROM ledger.dead_letter d JOIN ledger.source_partition p USING (source_partition_id)
WHERE (p.cluster_id, p.topic, p.partition, d.source_offset, d.source_index)
    = (%(cluster)s, %(topic)s, %(partition)s, %(offset)s, %(element)s)
"""


@dataclass
class Replay:
    """What was compared, and how much of the topic was booked again for it."""

    comparison: Comparison
    events: int
    booking_seconds: float
    seconds: float
    registry_seq: int
    offsets_beyond: int
    """Offsets that the topic holds after what the ledger has booked: not replayed."""


@dataclass(frozen=True)
class Log:
    """The usage events of one cluster."""

    access: KafkaAccess
    cluster_id: str
    topic: str
    silent_seconds: float


def replay(
    ledger_dsn: str, shadow_dsn: str, log: Log, *, clock: Callable[[], datetime], events_max: int, report: Report
) -> Replay:
    """Book the topic into an empty shadow ledger and compare. The ledger itself is only read.

    Raises CommandFailed where the ledger does not come to rest, the broker is silent, the shadow goes away or nothing
    can be compared, and psycopg.Error where the ledger is away.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        shadow = stack.enter_context(shadow_ledger(shadow_dsn))
        ledger = stack.enter_context(_at_rest(ledger_dsn))
        directory = registry_log.directory_upto(ledger)
        ends = _booked_upto(ledger, log)
        reader = TopicReader(log.access, log.topic, ends, silent_seconds=log.silent_seconds)
        events, booking_seconds = _book(
            reader, ShadowWriter(shadow, log.cluster_id, log.topic), directory, clock, events_max, report
        )
        again = stack.enter_context(connect(shadow, "replay", autocommit=True))
        stack.enter_context(snapshot(again))
        comparison = _compare(ledger, again, log, reader.begins, ends, report)
        _require_something_compared(comparison)
        return Replay(comparison, events, booking_seconds, time.monotonic() - began, directory.seq, reader.beyond)


@contextmanager
def _at_rest(dsn: str) -> Iterator[Connection[Any]]:
    """A snapshot of the ledger in which every late change is worked off: what full knowledge is compared with."""
    deadline = time.monotonic() + _REST_SECONDS
    while True:
        with connect(dsn, "replay", autocommit=True) as connection, snapshot(connection):
            rerated, known = connection.execute(_AT_REST).fetchone() or (0, 0)
            if rerated == known:
                yield connection
                return
        if time.monotonic() > deadline:
            raise CommandFailed(
                f"late changes are worked off up to {rerated} of {known}; start metering, or wait until it is done",
                AWAY,
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def _booked_upto(ledger: Connection[Any], log: Log) -> dict[int, int]:
    """The offset before which to stop, of each partition; without any, a replay would find no difference in nothing."""
    ends = dict(ledger.execute(_BOOKED, (log.cluster_id, log.topic)).fetchall())
    if not ends:
        known = ", ".join(row[0] for row in ledger.execute(_CLUSTERS, (log.topic,)))
        raise CommandFailed(
            f"the ledger has booked nothing of {log.topic} in the cluster {log.cluster_id} at {log.access.bootstrap}; "
            f"it knows {known or 'no cluster yet'}. Check BYOK_KAFKA_BOOTSTRAP and BYOK_LEDGER_DSN"
        )
    return ends


def _require_something_compared(comparison: Comparison) -> None:
    compared = comparison.ledger.identities + comparison.replay.identities
    if comparison.booked and not compared:
        why = "; ".join(f"{count:,} identities, {reason}" for reason, count in sorted(comparison.not_compared.items()))
        raise CommandFailed(f"nothing was compared: {why}. Check BYOK_KAFKA_BOOTSTRAP; `byok verify` needs no topic")


def _book(
    reader: TopicReader,
    writer: ShadowWriter,
    directory: Directory,
    clock: Callable[[], datetime],
    events_max: int,
    report: Report,
) -> tuple[int, float]:
    async def book() -> int:
        async with reader:
            return await book_topic(
                reader,
                writer,
                directory,
                clock=clock,
                events_max=events_max,
                on_events=lambda done: report("replay", done, None),
            )

    began = time.monotonic()
    with closing(writer):
        return asyncio.run(book()), time.monotonic() - began


def _compare(
    ledger: Connection[Any],
    again: Connection[Any],
    log: Log,
    begins: dict[int, int],
    ends: dict[int, int],
    report: Report,
) -> Comparison:
    where = {"cluster": log.cluster_id, "topic": log.topic}

    def in_topic(place: Place) -> bool:
        return begins.get(place.partition, 0) <= place.offset < ends.get(place.partition, 0)

    def looked_at(done: int) -> None:
        if done % _SAID_EVERY == 0:
            report("identities", done, None)

    evidence = Evidence(in_topic, _refused_by(ledger, where), _refused_by(again, where))
    return compare(_accounts(ledger, where), _accounts(again, where), evidence, looked_at)


def _accounts(connection: Connection[Any], where: dict[str, str]) -> Iterator[Account]:
    with connection.cursor("replay_entries", row_factory=dict_row) as cursor:
        cursor.itersize = _FETCHED_ROWS
        yield from accounts(cursor.execute(sql.SQL(_ENTRIES), where, binary=True))


def _refused_by(connection: Connection[Any], where: dict[str, str]) -> Callable[[Place], str | None]:
    def refused(place: Place) -> str | None:
        row = connection.execute(sql.SQL(_REFUSED), where | place._asdict()).fetchone()
        return None if row is None else str(row[0])

    return refused
