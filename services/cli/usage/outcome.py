"""What became of the events that were sent: the ledger says it, record by record."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from schemas.topics import USAGE_EVENTS
from services.cli.usage.booked import Booked, Position
from services.cli.usage.rejected_rows import RejectedRow

_POLL_SECONDS = 0.2


@dataclass
class SentRecords:
    """Where the acknowledged records lie, and from which line each of their events is. 8 bytes an event."""

    lines: dict[int, dict[int, array[int]]] = field(default_factory=dict)
    """By partition and offset."""

    def add(self, acknowledged: Any, lines: Sequence[int]) -> None:
        """Take note of a record as the broker has acknowledged it."""
        self.lines.setdefault(acknowledged.partition, {})[acknowledged.offset] = array("Q", lines)

    @property
    def events(self) -> int:
        """How many events are in them."""
        return sum(len(lines) for records in self.lines.values() for lines in records.values())


class Outcome(NamedTuple):
    """What became of the events."""

    recorded: int
    duplicates: int
    """Were booked before, with the same content."""
    refused: list[RejectedRow]
    """As dead letters."""
    unknown: int
    """Were not booked within the time."""


def await_outcome(
    booked: Booked,
    cluster_id: str,
    sent: SentRecords,
    since: datetime,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Wait until all is booked, or nothing more was for so many seconds. ``since``: the ledger's time before sending.

    Raises psycopg.Error.
    """
    last = {partition: max(records) for partition, records in sent.lines.items()}
    positions: dict[int, Position] = {}
    deadline, seen = clock() + seconds, -1
    while True:
        positions = booked.positions(cluster_id, USAGE_EVENTS.name, last)
        if all(partition in positions and positions[partition].next_offset > end for partition, end in last.items()):
            break
        progress = sum(position.next_offset for position in positions.values())
        if progress != seen:
            deadline, seen = clock() + seconds, progress
        elif clock() >= deadline:
            break
        sleep(_POLL_SECONDS)
    return _outcome(booked, sent, positions, since)


def _outcome(booked: Booked, sent: SentRecords, positions: dict[int, Position], since: datetime) -> Outcome:
    known = recorded = 0
    refused: list[RejectedRow] = []
    for partition, position in positions.items():
        records = sent.lines[partition]
        offsets = sorted(offset for offset in records if offset < position.next_offset)
        known += sum(len(records[offset]) for offset in offsets)
        recorded += booked.recorded(position.source_partition_id, offsets, since)
        for letter in booked.letters(position.source_partition_id, offsets):
            line = records[letter.source_offset][letter.source_index]
            refused.append(RejectedRow.of_detail(line, letter.reason, letter.detail))
    return Outcome(recorded, known - recorded - len(refused), sorted(refused), sent.events - known)
