"""Which trace a record, or an event in it, belonged to: kept beside what was booked, and no part of it.

An event's identity and payload know nothing of it: sent again within another trace, it is the same event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from psycopg import Connection

from services.runtime.database import arrays

OF_THE_RECORD = -1
"""In place of an event's index: of all events in the record that name no trace of their own."""

_INSERT = """
INSERT INTO ledger.source_trace (source_partition_id, source_offset, source_index, traceparent)
SELECT * FROM unnest(%s::int[], %s::bigint[], %s::int[], %s::text[]) ON CONFLICT DO NOTHING
"""
OF_A_CHARGE = f"""
SELECT traceparent FROM ledger.source_trace WHERE source_partition_id = %(partition)s
  AND source_offset = %(offset)s AND source_index IN ({OF_THE_RECORD}, %(index)s) ORDER BY source_index DESC LIMIT 1
"""
"""The trace of the event that was read at a place, by the names of its parameters; its own before its record's."""


class SourceTrace(NamedTuple):
    """A place, and the trace that was named there."""

    source_partition_id: int
    source_offset: int
    source_index: int
    traceparent: str


def write_traces(connection: Connection[Any], traces: Iterable[SourceTrace]) -> None:
    """Keep them, in the transaction that is open: one statement, and none where there is nothing to keep."""
    rows = sorted(set(traces))
    if rows:
        connection.execute(_INSERT, arrays(rows))
