"""Holds the books against the rows they speak of (invariant I1): offsets, counts and totals. No I/O.

Every offset from a partition's first to its next must be covered exactly once; what a range says became of its events
must be there, row by row; and the totals that metrics show must be the sums of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from services.proof.entries import Difference


class Partition(NamedTuple):
    """One Kafka partition of one cluster, and how far it is booked."""

    source_partition_id: int
    cluster_id: str
    topic: str
    partition: int
    origin_offset: int
    next_offset: int


class CoveredRange(NamedTuple):
    """The offsets ``[from_offset, to_offset)`` of one batch, and what it says became of the events in them."""

    source_partition_id: int
    from_offset: int
    to_offset: int
    events: int
    recorded: int
    duplicates: int
    dead_letters: int


class RowsAt(NamedTuple):
    """How many rows name one offset as the place they were read from."""

    source_partition_id: int
    offset: int
    how_many: int

    @property
    def place(self) -> tuple[int, int]:
        """Where they were read, in the order of rows and ranges."""
        return self.source_partition_id, self.offset


Total = tuple[str, tuple[tuple[str, str], ...]]
"""A metric and its labels in the order of their names."""


class _Rows:
    """Rows by partition and offset, taken in that order; what no range takes is kept as stray."""

    def __init__(self, name: str, rows: Iterable[RowsAt]) -> None:
        self._name = name
        self._rows = iter(rows)
        self._next = next(self._rows, None)
        self._stray: dict[int, list[int]] = {}

    def within(self, source_partition_id: int, start: int, end: int) -> int:
        """How many rows lie in ``[start, end)``. Ranges must be asked for in their order."""
        count = 0
        while self._next is not None and self._next.place < (source_partition_id, end):
            if self._next.place >= (source_partition_id, start):
                count += self._next.how_many
            else:
                self._keep(self._next)
            self._next = next(self._rows, None)
        return count

    def strays(self) -> Iterator[Difference]:
        """What nothing covers, once all ranges were asked for."""
        while self._next is not None:
            self._keep(self._next)
            self._next = next(self._rows, None)
        for source_partition_id, (count, first) in sorted(self._stray.items()):
            place = f"source partition {source_partition_id}"
            yield Difference("counts", place, f"{count} {self._name} from offset {first} on lie in no covered range")

    def _keep(self, row: RowsAt) -> None:
        stray = self._stray.setdefault(row.source_partition_id, [0, row.offset])
        stray[0] += row.how_many


def check_books(
    partitions: Iterable[Partition],
    ranges: Iterable[CoveredRange],
    charges: Iterable[RowsAt],
    dead_letters: Iterable[RowsAt],
) -> Iterator[Difference]:
    """What is wrong with offsets and counts. All but ``partitions`` must come by partition and offset."""
    known = {partition.source_partition_id: partition for partition in partitions}
    rows = (_Rows("charges", charges), _Rows("dead letters", dead_letters))
    seen = set()
    for source_partition_id, covered in groupby(ranges, key=lambda each: each.source_partition_id):
        seen.add(source_partition_id)
        partition = known.get(source_partition_id)
        if partition is None:
            yield Difference("offsets", f"source partition {source_partition_id}", "it has ranges, but is not known")
            partition = Partition(source_partition_id, "?", "?", -1, 0, 0)
        yield from _check_partition(partition, covered, rows)
    for source_partition_id, partition in known.items():
        if source_partition_id not in seen:
            yield from _check_partition(partition, (), rows)
    for each in rows:
        yield from each.strays()


def _check_partition(
    partition: Partition, ranges: Iterable[CoveredRange], rows: tuple[_Rows, _Rows]
) -> Iterator[Difference]:
    place = f"{partition.topic} partition {partition.partition} (cluster {partition.cluster_id})"
    due = partition.origin_offset
    for covered in ranges:
        start, end = covered.from_offset, covered.to_offset
        if start > due:
            yield Difference("offsets", place, f"gap: no range covers the offsets [{due}, {start})")
        elif start < due:
            yield Difference("offsets", place, f"overlap: the offsets [{start}, {min(due, end)}) are covered twice")
        due = max(due, end)
        yield from _check_counts(place, covered, rows)
    if due < partition.next_offset:
        yield Difference("offsets", place, f"gap: no range covers the offsets [{due}, {partition.next_offset})")
    elif due > partition.next_offset:
        detail = f"ranges reach to offset {due}, but it is booked only up to {partition.next_offset}"
        yield Difference("offsets", place, detail)


def _check_counts(place: str, covered: CoveredRange, rows: tuple[_Rows, _Rows]) -> Iterator[Difference]:
    start, end = covered.from_offset, covered.to_offset
    place = f"{place}, offsets [{start}, {end})"
    if covered.events != covered.recorded + covered.duplicates + covered.dead_letters:
        detail = (
            f"{covered.events} events are not {covered.recorded} recorded + {covered.duplicates} duplicates"
            f" + {covered.dead_letters} dead letters"
        )
        yield Difference("counts", place, detail)
    charges, letters = (each.within(covered.source_partition_id, start, end) for each in rows)
    if charges != covered.recorded:
        yield Difference("counts", place, f"{covered.recorded} events were recorded, {charges} charges are there")
    if letters != covered.dead_letters:
        yield Difference("counts", place, f"{covered.dead_letters} dead letters were written, {letters} are there")


def total_key(metric: str, labels: Mapping[str, str]) -> Total:
    """The total as it is compared. Of a duplicate no row is kept, so its event type cannot be checked."""
    if labels.get("outcome") == "duplicate":
        labels = {"outcome": "duplicate"}
    return metric, tuple(sorted(labels.items()))


def check_totals(stored: Mapping[Total, int], summed: Mapping[Total, int]) -> Iterator[Difference]:
    """Where a total is not the sum of the rows; one that is not there is 0."""
    for total in sorted(stored.keys() | summed.keys()):
        is_, must = stored.get(total, 0), summed.get(total, 0)
        if is_ != must:
            metric, labels = total
            place = f"{metric} {{{', '.join(f'{name}={value}' for name, value in labels)}}}"
            yield Difference("totals", place, f"the total is {is_}, the rows come to {must}")
