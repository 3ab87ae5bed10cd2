"""Dead letters looked up, and sent once more: the kept bytes with the record's key, so the identity stays what it was.

What is booked meanwhile is recognised as a duplicate, so a replay can be repeated safely.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import orjson
from psycopg import Connection
from psycopg.rows import class_row

from schemas.dead_letters import FOR_WANT_OF_A_PRICE, Reason
from schemas.topics import USAGE_EVENTS
from services.books import registry_log
from services.domain.model_prices import UnpricedError
from services.domain.rating import rate
from services.domain.usage import Identity, payload_hash
from services.messages.json_bytes import MalformedJsonError, decode
from services.messages.unpriced import why_unpriced
from services.messages.usage_events import RejectedError, read_event

_IN_FLIGHT_MAX = 256
_FETCHED_ROWS = 200
USELESS = {
    Reason.MALFORMED_JSON: "is no event: the producer has to send it anew",
    Reason.BATCH_TOO_LARGE: "is no event: the producer has to send it anew, in smaller batches",
    Reason.IDENTITY_CONFLICT: "would conflict again: what is booked under an identity is never taken back",
}
"""Reasons for which an event would be refused again, however often it is sent, and why."""
_MASKED = "held a key that was masked: its bytes are gone, the producer has to send it anew"
_REPEATED = "says the very same as one before it"
_CUT = "was too long to be kept whole: the producer has to send it anew"


class Wanted(NamedTuple):
    """Which dead letters; None does not narrow it down. Times are of the refusal, ``[since, until)``."""

    ids: Sequence[int] | None = None
    reasons: Sequence[str] | None = None
    org_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class DeadLetterSummary(NamedTuple):
    """One dead letter without its bytes."""

    dead_letter_id: int
    reason: str
    detail: str
    failed_at: datetime
    org_id: str | None
    event_source: str | None
    event_id: str | None
    event_type: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    source_index: int
    masked: bool
    whole_bytes: int | None
    """How many bytes were refused, where only their beginning is kept."""
    has_event: bool
    """Whether the event in what is masked or cut is kept beside it, for a replay."""
    booked: bool
    """Whether its identity is booked by now, by a replay or by another message."""

    @property
    def is_altered(self) -> bool:
        """Whether the kept bytes are not those that were refused."""
        return self.masked or self.whole_bytes is not None


class KeptLetter(NamedTuple):
    """One dead letter as it was kept."""

    summary: DeadLetterSummary
    record_key: bytes | None
    payload: bytes
    event: bytes | None

    @property
    def to_send(self) -> tuple[bytes | None, bytes]:
        """Key and value of the record that a replay sends."""
        if self.event is None:
            return self.record_key, self.payload
        return orjson.loads(self.event)["data"]["org_id"].encode(), self.event


class Plan(NamedTuple):
    """What a replay would do: how many are to be sent, by reason, and why others are left, with how many."""

    to_send: Counter[str]
    left: Counter[str]


class _Future(Protocol):
    def get(self, timeout: float | None = None) -> Any: ...


class Producer(Protocol):
    """The part of KafkaProducer that is used here."""

    def send(self, topic: str, *, key: bytes | None, value: bytes) -> _Future:
        """Queue one record."""


_SUMMARY = """
d.dead_letter_id, d.reason, d.detail, d.failed_at, d.org_id, d.event_source, d.event_id, d.event_type,
p.topic AS source_topic, p.partition AS source_partition, d.source_offset, d.source_index, d.masked,
d.whole_bytes, d.event IS NOT NULL AS has_event,
EXISTS (SELECT FROM ledger.entry e WHERE (e.org_id, e.event_source, e.event_id, e.revision)
        = (d.org_id, d.event_source, d.event_id, 0)) AS booked
"""
_FROM = """
FROM ledger.dead_letter d JOIN ledger.source_partition p USING (source_partition_id)
WHERE (%(ids)s::bigint[] IS NULL OR d.dead_letter_id = ANY (%(ids)s))
  AND (%(reasons)s::text[] IS NULL OR d.reason = ANY (%(reasons)s))
  AND (%(org_id)s::text IS NULL OR d.org_id = %(org_id)s)
  AND (%(since)s::timestamptz IS NULL OR d.failed_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR d.failed_at < %(until)s)
"""


def newest(connection: Connection[Any], wanted: Wanted, limit: int) -> tuple[list[DeadLetterSummary], int]:
    """The newest of what is wanted, and how many there are in all."""
    parameters = wanted._asdict()
    with connection.cursor(row_factory=class_row(DeadLetterSummary)) as cursor:
        query = f"SELECT {_SUMMARY} {_FROM} ORDER BY d.dead_letter_id DESC LIMIT %(limit)s"
        letters = cursor.execute(query, parameters | {"limit": limit}).fetchall()
    count = connection.execute(f"SELECT count(*) {_FROM}", parameters).fetchone()
    return letters, 0 if count is None else count[0]


def kept(connection: Connection[Any], dead_letter_id: int) -> KeptLetter | None:
    """One dead letter with its bytes."""
    row = connection.execute(
        f"SELECT {_SUMMARY}, d.record_key, d.payload, d.event {_FROM}", Wanted(ids=[dead_letter_id])._asdict()
    ).fetchone()
    return None if row is None else _kept(row)


def why_not(letter: DeadLetterSummary, *, force: bool) -> str | None:
    """Why a dead letter is left where it is; None where it is sent. ``force`` sends also what will be refused again."""
    if letter.is_altered and not letter.has_event:
        return _CUT if letter.whole_bytes is not None else _MASKED
    if letter.booked and letter.reason != Reason.IDENTITY_CONFLICT:
        return "is booked meanwhile"
    return None if force else USELESS.get(Reason(letter.reason))


WhyNot = Callable[[KeptLetter], str | None]
"""Why a dead letter is left where it is; None where it is sent. It is asked in the order of the refusals, once each."""


def what_helps(*, force: bool) -> WhyNot:
    """Send what may be booked now, whatever it was refused for; ``force`` also what will be refused again.

    The same bytes that were refused several times are sent once.
    """
    seen: set[bytes] = set()

    def why(letter: KeptLetter) -> str | None:
        found = why_not(letter.summary, force=force)
        if found is None:
            digest = hashlib.sha256(letter.to_send[1]).digest()
            found = _REPEATED if digest in seen else None
            seen.add(digest)
        return found

    return why


def what_is_priced(connection: Connection[Any]) -> WhyNot:
    """Send only what was refused for want of a price and has one by now: each of these is booked, and nothing else."""
    with connection.transaction():
        directory = registry_log.directory_upto(connection)
    first: dict[Identity, bytes] = {}

    def why(letter: KeptLetter) -> str | None:
        if letter.summary.reason not in FOR_WANT_OF_A_PRICE:
            return "was not refused for want of a price"
        if (found := why_not(letter.summary, force=False)) is not None:
            return found
        try:
            event = read_event(decode(letter.to_send[1]))
            rate(event, directory)
        except UnpricedError as error:
            return f"has no price yet: {why_unpriced(error).reason}"
        except (RejectedError, MalformedJsonError):
            return "is not read as an event by this release"
        digest = payload_hash(event)
        if event.identity in first:
            return _REPEATED if first[event.identity] == digest else USELESS[Reason.IDENTITY_CONFLICT]
        first[event.identity] = digest
        return None

    return why


def plan(connection: Connection[Any], wanted: Wanted, why: WhyNot) -> Plan:
    """What a replay of what is wanted would do."""
    to_send: Counter[str] = Counter()
    left: Counter[str] = Counter()
    with connection.transaction():
        for letter in _all_kept(connection, wanted):
            found = why(letter)
            if found is None:
                to_send[letter.summary.reason] += 1
            else:
                left[f"{letter.summary.reason}: {found}"] += 1
    return Plan(to_send, left)


def replay(
    connection: Connection[Any],
    producer: Producer,
    wanted: Wanted,
    why: WhyNot,
    *,
    timeout_seconds: float,
    on_sent: Callable[[int], None],
) -> int:
    """Send what is wanted and can be sent, in the order of the refusals; return how many the broker has acknowledged.

    Raises KafkaError where a record is not acknowledged; those before it are. ``on_sent`` hears the number acknowledged
    so far.
    """
    in_flight: deque[_Future] = deque()
    sent = 0

    def acknowledge() -> None:
        nonlocal sent
        in_flight.popleft().get(timeout_seconds)
        sent += 1
        on_sent(sent)

    with connection.transaction():
        for letter in _all_kept(connection, wanted):
            if why(letter) is not None:
                continue
            key, value = letter.to_send
            in_flight.append(producer.send(USAGE_EVENTS.name, key=key, value=value))
            while len(in_flight) >= _IN_FLIGHT_MAX:
                acknowledge()
    while in_flight:
        acknowledge()
    return sent


def _all_kept(connection: Connection[Any], wanted: Wanted) -> Iterator[KeptLetter]:
    with connection.cursor("replay") as cursor:
        cursor.itersize = _FETCHED_ROWS
        query = f"SELECT {_SUMMARY}, d.record_key, d.payload, d.event {_FROM} ORDER BY d.dead_letter_id"
        for row in cursor.execute(query, wanted._asdict()):
            yield _kept(row)


def _kept(row: Sequence[Any]) -> KeptLetter:
    *summary, key, payload, event = row
    return KeptLetter(DeadLetterSummary(*summary), _bytes(key), bytes(payload), _bytes(event))


def _bytes(value: memoryview | bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
