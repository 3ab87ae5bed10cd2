"""What the ledger's database says of events: before they are sent, whether their ids stand for others; after it, what
became of them. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection

from services.domain.usage import Identity

_OFFSETS_AT_ONCE = 5_000
_CHARGES = """
SELECT org_id, event_source, event_id, payload_hash FROM ledger.entry
WHERE revision = 0 AND kind = 'charge' AND org_id = ANY (%s) AND event_source = %s AND event_id = ANY (%s)
"""
_LIKE = """
SELECT EXISTS (SELECT FROM ledger.entry WHERE org_id = ANY (%s) AND event_source = %s AND event_id LIKE %s)
"""
_POSITIONS = """
SELECT partition, source_partition_id, next_offset FROM ledger.source_partition
WHERE cluster_id = %s AND topic = %s AND partition = ANY (%s)
"""
# The index by time of recording finds the few blocks that were written since; there is none by offset.
_RECORDED = """
SELECT count(*) FROM ledger.entry
WHERE recorded_at >= %s - interval '1 hour' AND kind = 'charge'
  AND source_partition_id = %s AND source_offset = ANY (%s)
"""
_LETTERS = """
SELECT source_offset, source_index, reason, detail FROM ledger.dead_letter
WHERE source_partition_id = %s AND source_offset = ANY (%s) ORDER BY source_offset, source_index
"""


class Position(NamedTuple):
    """How far the records of a partition are booked."""

    source_partition_id: int
    next_offset: int


class Letter(NamedTuple):
    """One event that metering has refused: where it lay, and why."""

    source_offset: int
    source_index: int
    reason: str
    detail: str


class Booked:
    """Questions to one ledger. Every method raises psycopg.Error."""

    def __init__(self, connection: Connection[Any]) -> None:
        """The connection commits by itself: each answer is as of now."""
        self._connection = connection

    def now(self) -> datetime:
        """The database's clock."""
        at: datetime = self._one("SELECT now()")
        return at

    def charges(self, org_ids: Iterable[str], source: str, ids: Sequence[str]) -> Mapping[Identity, bytes]:
        """Of those of the ids that are booked, in any of the organizations, the hash of what is."""
        rows = self._connection.execute(_CHARGES, (list(org_ids), source, list(ids)))
        return {Identity(*identity): bytes(payload_hash) for *identity, payload_hash in rows}

    def has_ids_like(self, org_ids: Iterable[str], source: str, prefix: str) -> bool:
        """Whether an id with this beginning is booked for the source, in any of the organizations."""
        return bool(self._one(_LIKE, (list(org_ids), source, f"{prefix}%")))

    def positions(self, cluster_id: str, topic: str, partitions: Iterable[int]) -> dict[int, Position]:
        """By partition, for those of which something is booked."""
        rows = self._connection.execute(_POSITIONS, (cluster_id, topic, list(partitions)))
        return {partition: Position(*position) for partition, *position in rows}

    def recorded(self, source_partition_id: int, offsets: Sequence[int], since: datetime) -> int:
        """How many charges came from these offsets, booked after ``since``."""
        parts = _parts(offsets)
        return sum(self._one(_RECORDED, (since, source_partition_id, part)) for part in parts)

    def letters(self, source_partition_id: int, offsets: Sequence[int]) -> Iterator[Letter]:
        """What was refused at these offsets."""
        for part in _parts(offsets):
            yield from map(Letter._make, self._connection.execute(_LETTERS, (source_partition_id, part)))

    def _one(self, query: str, parameters: tuple[Any, ...] = ()) -> Any:
        row = self._connection.execute(query, parameters).fetchone()
        return None if row is None else row[0]


def _parts(offsets: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(offsets), _OFFSETS_AT_ONCE):
        yield list(offsets[start : start + _OFFSETS_AT_ONCE])
