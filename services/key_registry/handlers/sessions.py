"""Signing out everywhere: since when the sessions of whoever asks count (docs/contract.md, section 8).

What a session is, a console knows; here is only the time before which all of one's sessions have ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from services.domain.permissions import Caller
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.database.tables import EndedSessions
from services.key_registry.handlers.registry import Registry

KEPT_FOR = timedelta(days=31)
"""No session is older (``BYOK_CONSOLE_SESSION_HOURS``), so there is none left that this could end."""


def ended_before(registry: Registry, caller: Caller) -> datetime | None:
    """The time before which the caller's sessions have ended; None where they never were."""
    with registry.sessions.begin() as session:
        found = session.get(EndedSessions, (caller.org_id, caller.id))
        return None if found is None else found.ended_before


def end_sessions(registry: Registry, caller: Caller) -> datetime:
    """End all sessions that the caller has by now; the time, which only rises, is the database's."""
    now = func.clock_timestamp()
    row = insert(EndedSessions).values(org_id=caller.org_id, subject=caller.id, ended_before=now)
    # One that was committed meanwhile by another clock must not be taken back.
    later = func.greatest(row.excluded.ended_before, EndedSessions.ended_before + timedelta(microseconds=1))
    ended = row.on_conflict_do_update(index_elements=["org_id", "subject"], set_={"ended_before": later}).returning(
        col(EndedSessions.ended_before)
    )
    with registry.sessions.begin() as session:
        at: datetime = session.execute(ended).scalar_one()
        audit.append(session, Entry(caller, Event.END_SESSIONS, _of(caller)))
    return at


def _of(caller: Caller) -> Subject:
    return Subject(None if caller.is_everywhere else caller.org_id)


def forget_ended(session: Session) -> int:
    """Drop what can end nothing any more; how many there were."""
    old = delete(EndedSessions).where(col(EndedSessions.ended_before) < func.clock_timestamp() - KEPT_FOR)
    return session.execute(old).rowcount  # type: ignore[attr-defined, no-any-return]
