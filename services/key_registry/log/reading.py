"""The log read from a place on, a bounded part at a time, for those who follow it over HTTP.

What concerns leases is told as the log has it. Of what moves none only that it came: a rate card has 90 kB.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlmodel import Session, select

from schemas.registry_changes import CredentialChange, PlanChange
from services.key_registry.database.tables import LogHead
from services.messages.registry_changes import read_change

_CHANGES_MAX = 1_000
_BYTES_MAX = 512 * 1024

# Longer than _BYTES_MAX by one change at most. None of it is fetched that nobody is told.
_AFTER = text("""
    SELECT seq, key, changed_at, payload FROM (
      SELECT seq, key, changed_at, payload,
        coalesce(sum(octet_length(payload)) OVER (
          ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
      FROM (
        SELECT seq, key, changed_at,
          CASE WHEN key LIKE 'credential:%' OR key LIKE 'plan:%' THEN payload END AS payload
        FROM registry.log WHERE seq > :after ORDER BY seq LIMIT :most
      ) AS next
    ) AS counted
    WHERE before < :bytes ORDER BY seq
""")


class Notice(NamedTuple):
    """That something changed which moves no lease; ``name`` is a card's or, of other names of models, a provider's."""

    seq: int
    kind: str
    changed_at: datetime
    name: str


ToldChange = CredentialChange | PlanChange | Notice


class Part(NamedTuple):
    """Some of the log in its order: all that is there up to ``end``."""

    changes: tuple[ToldChange, ...]
    end: int
    head: int
    """Where the log ended when it was looked at."""


class ChangePage(NamedTuple):
    """What one follower is told; it goes on after ``next_after``."""

    changes: tuple[ToldChange, ...]
    next_after: int
    more: bool
    """Whether the log goes on behind it already."""


def read_head(session: Session) -> int:
    """The number of the newest change; 0 before the first."""
    return session.exec(select(LogHead.last_seq)).one()


def read_after(session: Session, after: int) -> Part:
    """What follows ``after``, as much as is read at once. Commit order is the order of ``seq``: nothing comes between
    what was read once."""
    # First the head: whatever is committed by then is in what is read next.
    head = read_head(session)
    bounds = {"after": after, "most": _CHANGES_MAX, "bytes": _BYTES_MAX}
    changes = tuple(_told(*row) for row in session.connection().execute(_AFTER, bounds))
    return Part(changes, changes[-1].seq if changes else after, head)


def page_of(part: Part, after: int, org_id: str | None, limit: int) -> ChangePage:
    """What of ``part`` a follower is told that knows the log up to ``after``, at most ``limit`` changes.

    With ``org_id`` they are that organization's and everybody's; without, all.
    """
    its = [change for change in part.changes if change.seq > after and _concerns(change, org_id)]
    end = its[limit - 1].seq if len(its) > limit else max(after, part.end)
    return ChangePage(tuple(its[:limit]), end, more=end < part.head)


def _concerns(change: ToldChange, org_id: str | None) -> bool:
    return org_id is None or isinstance(change, Notice) or change.org_id == org_id


def _told(seq: int, key: str, changed_at: datetime, payload: bytes | None) -> ToldChange:
    if payload is not None:
        change = read_change(payload)
        if isinstance(change, (CredentialChange, PlanChange)):
            return change
    kind, _, name = key.partition(":")
    return Notice(seq, kind, changed_at.astimezone(UTC), name)
