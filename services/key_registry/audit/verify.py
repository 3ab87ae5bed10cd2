"""Whether the audit log is what was written: its chain derived again, row by row, from one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from psycopg import Connection, IsolationLevel

from services.key_registry.audit.chain import GENESIS, BrokenChain, Link, checked

_ROWS = f"SELECT {', '.join(Link._fields)} FROM registry.audit ORDER BY seq"
_HEAD = "SELECT last_seq, last_hash FROM registry.audit_head"
_ROWS_AT_ONCE = 2_000


class Verified(NamedTuple):
    """A log that is whole, and its end, which stands for all of it."""

    rows: int
    head: bytes


def verify_audit(
    connection: Connection[Any],
    kept: bytes | None = None,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verified:
    """Check every row. ``kept`` is the hash of a row, or an earlier head, that must still be in the log.

    Raises BrokenChain that names the first row that is not what was written. ``report`` hears how many rows are done,
    and of how many. ``connection`` must be in no transaction.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        last_seq, last_hash = connection.execute(_HEAD).fetchone() or (0, GENESIS)
        rows, head, met = 0, GENESIS, kept in (None, GENESIS)
        for link in checked(_links(connection)):
            rows, head = link.seq, link.hash
            met = met or head == kept
            report(rows, last_seq)
    _check_end(rows, head, last_seq, last_hash)
    if not met:
        raise BrokenChain(rows + 1, "is missing, or all was written anew: no row has the hash that was kept")
    return Verified(rows, head)


def _links(connection: Connection[Any]) -> Iterator[Link]:
    with connection.cursor("audit") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        for row in cursor.execute(_ROWS):
            yield Link(*row)


def _check_end(rows: int, head: bytes, last_seq: int, last_hash: bytes) -> None:
    if rows < last_seq:
        raise BrokenChain(rows + 1, f"is missing: the log ended with row {last_seq}")
    if (rows, head) != (last_seq, last_hash):
        raise BrokenChain(rows, f"is not the one with which the log ended, which was row {last_seq}")
