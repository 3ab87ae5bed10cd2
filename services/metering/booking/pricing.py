"""Prices what records hold, with what the directory knows at this moment. Pure: no I/O, no clock, no await."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from schemas.dead_letters import Reason
from services.domain.directory import Directory
from services.domain.entries import Entry, charge
from services.domain.model_prices import UnpricedError
from services.domain.rating import rate
from services.domain.usage import UsageEvent, payload_hash
from services.domain.values import Value
from services.messages.json_bytes import element_sources
from services.messages.unpriced import why_unpriced
from services.messages.usage_events import OF_THE_WHOLE_RECORD, Accepted, Outcome, Rejected, Rejection, read_record
from services.runtime.trace_context import TraceContext, read_traceparent


class Record(NamedTuple):
    """One Kafka record, as far as it matters here."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: float
    """When it was produced, in seconds since 1970."""
    unreadable: str | None = None
    """Why nobody can read it, where that is so; it has no key and no value then."""
    trace: TraceContext | None = None
    """The trace that its headers name."""


class Element(Value, frozen=True):
    """One event of a record, or what stands where one should be."""

    record: Record
    source_index: int
    event: UsageEvent | None
    payload_hash: bytes
    rejection: Rejection | None
    own_trace: TraceContext | None = None
    """The trace that the event itself names."""

    @property
    def source(self) -> bytes:
        """The element's own bytes; where the whole record was refused, all of it."""
        value = self.record.value or b""
        if self.rejection is not None and self.rejection.reason in OF_THE_WHOLE_RECORD:
            return value
        sources = _sources(value) if value else []
        return sources[self.source_index] if sources else value


# A batch may be refused element by element; it is taken apart once.
_sources = lru_cache(maxsize=1)(element_sources)


class ReadRecord(NamedTuple):
    """A record and the events in it."""

    record: Record
    elements: tuple[Element, ...]


class Covered(NamedTuple):
    """The offsets ``[start, end)`` of one partition that a batch takes in."""

    partition: int
    start: int
    end: int


class PricedElement(Value, frozen=True):
    """An element with the charge it comes to, or why it comes to none."""

    element: Element
    entry: Entry | None
    rejection: Rejection | None


class PricedBatch(NamedTuple):
    """What one transaction books: whole records, priced with the registry log up to ``registry_seq``."""

    covered: tuple[Covered, ...]
    elements: tuple[PricedElement, ...]
    registry_seq: int


def read_elements(record: Record, now: datetime) -> ReadRecord:
    """The record with what it holds."""
    elements = []
    for outcome in _outcomes(record, now):
        if isinstance(outcome, Accepted):
            digest = payload_hash(outcome.event)
            trace = None if outcome.traceparent is None else read_traceparent(outcome.traceparent)
            elements.append(Element(record, outcome.source_index, outcome.event, digest, None, trace))
        else:
            elements.append(Element(record, outcome.source_index, None, b"", outcome.rejection))
    return ReadRecord(record, tuple(elements))


def _outcomes(record: Record, now: datetime) -> list[Outcome]:
    if record.unreadable is not None:
        return [Rejected(0, Rejection.of(Reason.MALFORMED_JSON, record.unreadable))]
    return read_record(record.value, now)


def price_batch(covered: Sequence[Covered], records: Iterable[ReadRecord], directory: Directory) -> PricedBatch:
    """The records priced. Nothing is awaited here, so all of them see the same prefix of the registry log."""
    seq = directory.seq
    priced = tuple(_price(element, directory, seq) for read in records for element in read.elements)
    return PricedBatch(tuple(sorted(covered)), priced, seq)


def _price(element: Element, directory: Directory, seq: int) -> PricedElement:
    if element.event is None or element.rejection is not None:
        return PricedElement(element, None, element.rejection)
    try:
        return PricedElement(element, charge(element.event, rate(element.event, directory), seq), None)
    except UnpricedError as error:
        return PricedElement(element, None, why_unpriced(error))
