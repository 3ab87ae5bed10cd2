"""The journal: notes in files that are only appended to, and deleted once everything in them is booked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from services.local.embedded.journal.batches import record_count
from services.local.embedded.journal.notes import Kept, Note, Placed, encode, read
from services.runtime.logs import logger

_log = logger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
"""A file that has grown to this is followed by another."""


class Owed(NamedTuple):
    """An entry of an earlier run that may not be booked, and everywhere that a broker put it."""

    kept: Kept
    places: Sequence[Placed]


@dataclass
class _Segment:
    path: Path
    size: int = 0
    unplaced: int = 0
    """How many of its entries have no place in this run's log yet."""
    ends: dict[int, int] = field(default_factory=dict)
    """By partition, the offset after the last record that lies here."""

    def is_booked(self, booked: Mapping[int, int]) -> bool:
        return not self.unplaced and all(booked.get(partition, 0) >= end for partition, end in self.ends.items())


class _Unplaced(NamedTuple):
    segment: _Segment
    partition: int
    records: int


class Journal:
    """For one thread at a time, and one process: the data directory's locks see to that."""

    def __init__(self, folder: Path, cluster_id: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """``cluster_id`` is that of the broker's present run. Reads what earlier runs left in ``folder``.

        Raises OSError where the folder cannot be read or made.
        """
        self._folder = folder
        self._cluster_id = cluster_id
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._unplaced: dict[int, _Unplaced] = {}
        self._earlier: defaultdict[int, list[Placed]] = defaultdict(list)
        self._file: int | None = None
        self._numbers = 1
        self.next_entry = 1
        """The number of the first entry of this run."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._read_earlier_runs()

    @property
    def is_empty(self) -> bool:
        """Whether there is no file at all."""
        return not self._segments

    def owed(self) -> Iterator[Owed]:
        """What earlier runs left, in its order; to be asked for once, at the start."""
        for segment in list(self._segments):
            for note in _notes_of(segment.path):
                if isinstance(note, Kept) and note.entry in self._unplaced:
                    yield Owed(note, self._earlier.pop(note.entry, []))

    def write(self, notes: Sequence[Note]) -> None:
        """Return when the notes are on the disk; of places and settlements alone, when the system has them.

        Raises OSError where they cannot be written; then no entry among them is kept.
        """
        if not notes:
            return
        try:
            segment = self._append(b"".join(map(encode, notes)), sync=any(isinstance(note, Kept) for note in notes))
        except OSError:
            # What the broker said holds, whether it can be written down or not.
            for note in notes:
                self._apply(note, None)
            raise
        for note in notes:
            self._apply(note, segment)

    def drop_booked(self, booked: Mapping[int, int]) -> None:
        """Delete the first files of which everything is booked: ``booked`` has each partition's next offset."""
        # From the front only: a later file may hold the places of entries in an earlier one.
        while self._segments and self._segments[0].is_booked(booked):
            if len(self._segments) == 1:
                self._close()
            self._segments.pop(0).path.unlink(missing_ok=True)

    def _read_earlier_runs(self) -> None:
        for path in sorted(self._folder.glob("*.journal")):
            segment = _Segment(path)
            self._segments.append(segment)
            self._numbers = int(path.stem) + 1
            for note in _notes_of(path):
                self.next_entry = max(self.next_entry, note.entry + 1)
                if isinstance(note, Placed):
                    self._earlier[note.entry].append(note)
                else:
                    self._apply(note, segment)

    def _append(self, written: bytes, *, sync: bool) -> _Segment:
        segment = self._segments[-1] if self._file is not None else self._begin()
        file = self._file
        if file is None:
            raise AssertionError("a segment was begun")
        try:
            _write_all(file, written)
            if sync:
                os.fdatasync(file)
        except OSError:
            # Whether and how much of it is there is not known any more. Nothing is added to this file.
            with suppress(OSError):
                os.ftruncate(file, segment.size)
            self._close()
            raise
        segment.size += len(written)
        if segment.size >= self._segment_bytes:
            self._close()
        return segment

    def _begin(self) -> _Segment:
        segment = _Segment(self._folder / f"{self._numbers:012}.journal")
        self._file = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._numbers += 1
        self._segments.append(segment)
        # The file's name must outlast a power failure, too.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _apply(self, note: Note, segment: _Segment | None) -> None:
        """Keep account of a note; ``segment`` None: it could not be written."""
        if isinstance(note, Kept):
            if segment is not None:
                segment.unplaced += 1
                self._unplaced[note.entry] = _Unplaced(segment, note.partition, record_count(note.batches))
            return
        entry = self._unplaced.pop(note.entry, None)
        if entry is None:
            return
        entry.segment.unplaced -= 1
        if isinstance(note, Placed):
            ends = entry.segment.ends
            ends[entry.partition] = max(ends.get(entry.partition, 0), note.first_offset + entry.records)


def _notes_of(path: Path) -> Iterator[Note]:
    with path.open("rb") as file:
        yield from read(file)
        if not_whole := path.stat().st_size - file.tell():
            _log.warning("the end of a journal file is not whole, and ignored", file=path.name, bytes=not_whole)


def _write_all(file: int, written: bytes) -> None:
    left = memoryview(written)
    while left:
        left = left[os.write(file, left) :]
