"""Entries that a change touched and that could not be rated anew: set aside, shown, and forgotten once they can be.

They need no retry of their own. A change that makes such an entry ratable moves its price, so it touches the entry, and
the re-rater comes by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from services.runtime.database import arrays

_SET_ASIDE = """
INSERT INTO ledger.unrated_entry (entry_id, reason, detail, caused_by_seq)
SELECT entry_id, reason, detail, %s FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS new (entry_id, reason, detail)
ON CONFLICT (entry_id) DO UPDATE SET reason = excluded.reason, detail = excluded.detail,
  caused_by_seq = excluded.caused_by_seq
"""
_SETTLE = "DELETE FROM ledger.unrated_entry WHERE entry_id = ANY(%s)"


class Why(StrEnum):
    """Why an entry stands as it is."""

    NO_PRICE = "no_price"
    """The card in force now has no price for it, or one that no entry holds. None is guessed."""
    REFUSED = "refused"
    """The database refuses its correction."""


class Unrated(NamedTuple):
    """One current entry that stands as it is; ``detail`` is for operators."""

    entry_id: UUID
    reason: Why
    detail: str


def set_aside(connection: Connection[Any], unrated: Sequence[Unrated], cause: int) -> None:
    """Take note of entries that the change numbered ``cause`` could not be worked into."""
    if unrated:
        connection.execute(_SET_ASIDE, (cause, *arrays(unrated)))


def settle(connection: Connection[Any], entry_ids: Iterable[UUID]) -> None:
    """Strike out entries that are right as they are, or are corrected."""
    connection.execute(_SETTLE, (list(entry_ids),))
