"""What log lines say of records and events, so that each can be found again: by place, trace and identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from schemas.topics import USAGE_EVENTS
from services.domain.usage import Identity
from services.metering.booking.dead_letters import DeadLetter
from services.metering.booking.pricing import Element, ReadRecord
from services.runtime.logs import logger
from services.runtime.token_buckets import TokenBuckets
from services.runtime.trace_context import TraceContext

_log = logger(__name__)

_TRACES_SHOWN = 10
_LINES_AT_ONCE, _LINES_PER_SECOND = 50, 1.0


class Lazily:
    """Text that is made only where a line is written."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text()


def places_of(records: Sequence[ReadRecord]) -> dict[str, Any]:
    """For every line on these records: which they are (``partition:first-last``), and their first few traces."""
    return {
        "topic": USAGE_EVENTS.name,
        "offsets": Lazily(lambda: _offsets(records)),
        "trace_ids": Lazily(lambda: " ".join(each.trace_id for each in traces_of(records)[:_TRACES_SHOWN])),
    }


def _offsets(records: Iterable[ReadRecord]) -> str:
    spans: dict[int, tuple[int, int]] = {}
    for read in records:
        partition, offset = read.record.partition, read.record.offset
        spans[partition] = (spans.get(partition, (offset,))[0], offset)
    return " ".join(f"{partition}:{first}-{last}" for partition, (first, last) in sorted(spans.items()))


def traces_of(records: Iterable[ReadRecord]) -> list[TraceContext]:
    """The traces of the records and of the events in them, each once."""
    named = (trace for read in records for trace in (read.record.trace, *(each.own_trace for each in read.elements)))
    return list(dict.fromkeys(trace for trace in named if trace is not None))


def identity_of(element: Element) -> dict[str, Any]:
    """Which event it is, as far as it could be read, and where it stands."""
    identity: Identity | None = None if element.event is None else element.event.identity
    known = {} if identity is None else _named(identity)
    return known | {
        "partition": element.record.partition,
        "offset": element.record.offset,
        "index": element.source_index,
    }


def _named(identity: Identity) -> dict[str, str]:
    return {"organization": identity.org_id, "source": identity.source, "id": identity.id}


class DeadLetterLines:
    """A line for each dead letter, but no more than one a second for each reason where there are many."""

    def __init__(self) -> None:
        self._buckets = TokenBuckets(_LINES_PER_SECOND, _LINES_AT_ONCE)
        self._left_out: dict[str, int] = {}

    def write(self, letters: Iterable[DeadLetter]) -> None:
        """Say what was refused; the letters' texts are masked already."""
        for letter in letters:
            if self._buckets.take(letter.reason) > 0:
                self._left_out[letter.reason] = self._left_out.get(letter.reason, 0) + 1
                continue
            self._write(letter)

    def _write(self, letter: DeadLetter) -> None:
        left_out = self._left_out.pop(letter.reason, 0)
        _log.warning(
            "dead letter",
            reason=letter.reason,
            detail=letter.detail,
            organization=letter.org_id,
            source=letter.event_source,
            id=letter.event_id,
            topic=USAGE_EVENTS.name,
            partition=letter.partition,
            offset=letter.source_offset,
            index=letter.source_index,
            **({} if letter.trace is None else {"trace_id": letter.trace.trace_id}),
            **({"left_out": left_out} if left_out else {}),
        )
