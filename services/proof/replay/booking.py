"""Books the topic into the shadow with metering's own code, knowing from the start what the ledger knows by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from services.domain.directory import Directory
from services.metering.booking.book_records import BookRecords
from services.metering.booking.ledger_writer import Booked, LedgerWriter
from services.metering.booking.pricing import ReadRecord
from services.metering.dead_letters.share import Count, Origin
from services.proof.replay.topic import TopicReader


class _FullKnowledge:
    """A directory that grows no more."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def reaches(self, seq: int) -> None:
        """Nobody raises the shadow's fence, so nothing beyond the directory can be asked for."""
        raise RuntimeError(f"a fence at {seq} in a shadow ledger")


class _OpenGate:
    """A replay is not paused for the dead letters that it meets again."""

    async def wait_free(self) -> None:
        """Return at once."""

    async def note(self, by_origin: Mapping[Origin, Count]) -> None:
        """Take no note."""


async def book_topic(
    reader: TopicReader,
    writer: LedgerWriter,
    directory: Directory,
    *,
    clock: Callable[[], datetime],
    events_max: int,
    on_events: Callable[[int], None],
) -> int:
    """Book all that the reader delivers; return how many events. ``on_events`` hears how many so far.

    ``clock`` is the one of now, not of then: what lay in the future when it was refused may be booked here, but nothing
    is refused here that was booked then.
    """
    events = 0

    def count(records: Sequence[ReadRecord], _booked: Booked) -> None:
        nonlocal events
        events += sum(len(record.elements) for record in records)
        on_events(events)

    book = BookRecords(
        writer,
        _FullKnowledge(directory),
        reader,
        _OpenGate(),
        clock=clock,
        events_max=events_max,
        on_booked=count,
    )
    async for records in reader.records():
        await book(records)
    return events
