"""The rows of the audit log as they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlmodel import Session, col, select

from services.key_registry.database.tables import AuditRow


class AuditFilter(NamedTuple):
    """Which rows; None does not narrow it down. Times are half-open ``[start, end)``."""

    org_id: str | None = None
    actor: str | None = None
    actions: Collection[str] | None = None
    credential_id: str | None = None
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def list_rows(session: Session, wanted: AuditFilter, before: int | None, limit: int) -> Sequence[AuditRow]:
    """The newest rows first, beginning below the ``seq`` given."""
    equal = {
        AuditRow.org_id: wanted.org_id,
        AuditRow.actor: wanted.actor,
        AuditRow.credential_id: wanted.credential_id,
        AuditRow.outcome: wanted.outcome,
    }
    seq, at = col(AuditRow.seq), col(AuditRow.occurred_at)
    statement = select(AuditRow).where(*(col(column) == value for column, value in equal.items() if value is not None))
    if wanted.actions is not None:
        statement = statement.where(col(AuditRow.action).in_(wanted.actions))
    # Numbers rise with the time, so a bound of time is found once and then is one of the index that is read.
    if wanted.start is not None:
        statement = statement.where(seq >= _one(select(seq).where(at >= wanted.start).order_by(at)))
    if wanted.end is not None:
        statement = statement.where(seq <= _one(select(seq).where(at < wanted.end).order_by(at.desc())))
    if before is not None:
        statement = statement.where(seq < before)
    return session.exec(statement.order_by(seq.desc()).limit(limit)).all()


def _one(found: Any) -> Any:
    return found.limit(1).scalar_subquery()
