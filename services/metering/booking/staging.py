"""What a batch writes, made before its transaction begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.books.entry_rows import copy_text, entry_line
from services.domain.entries import Entry
from services.metering.booking.dead_letters import DeadLetter, dead_letter
from services.metering.booking.pricing import PricedBatch, PricedElement
from services.metering.booking.tally import Tally


class Staged(NamedTuple):
    """The rows and the letters of a priced batch."""

    firsts: Mapping[UUID, PricedElement]
    """The first element of each entry id: those that may become rows."""
    rows: bytes
    """Those as COPY takes them, in the order of their ids, so that the index is walked once and not at random."""
    letters: Sequence[DeadLetter]
    """What was refused already. Masking takes its time, and a session that is silent for long is ended."""
    tally: Tally
    """What becomes of the batch if none of its ids is booked before."""


def stage(batch: PricedBatch, partition_ids: Mapping[int, int]) -> Staged:
    """The rows, under the ledger's numbers of their partitions."""
    firsts: dict[UUID, PricedElement] = {}
    letters = []
    for priced in batch.elements:
        if priced.entry is not None:
            firsts.setdefault(priced.entry.entry_id, priced)
        else:
            letters.append(_letter(priced))
    # A line begins with its id.
    lines = sorted([_line(priced, priced.entry, partition_ids) for priced in firsts.values() if priced.entry])
    return Staged(firsts, copy_text(lines), letters, Tally(batch.elements, firsts, letters))


def _line(priced: PricedElement, entry: Entry, partition_ids: Mapping[int, int]) -> str:
    element = priced.element
    partition, offset = element.record.partition, element.record.offset
    return entry_line(entry, element.payload_hash, partition_ids[partition], offset, element.source_index)


def _letter(priced: PricedElement) -> DeadLetter:
    if priced.rejection is None:
        raise TypeError("an element without an entry has a rejection")
    return dead_letter(priced.element, priced.rejection)
