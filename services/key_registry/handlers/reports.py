"""How a key fared at its provider, as runners report it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session

from services.domain.permissions import CREDENTIALS_LEASE, Caller
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.secrets import KeyInUse
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.views import subject_of
from services.key_registry.log.outbox import log_time
from services.key_registry.rules import policy
from services.key_registry.rules.health import AGE_MAX, AHEAD_MAX, Health, Report, is_news
from services.key_registry.rules.refusals import Code, not_found
from services.runtime.refusals import Refusal


class Reported(NamedTuple):
    """What became of a report."""

    provider: str
    kept: bool
    """Whether it is what is shown of the key now."""


@refusals_audited(Event.REPORT, unknown_credential)
def report_key(registry: Registry, caller: Caller, credential_id: str, report: Report) -> Reported:
    """Show how the key fared, unless something newer is known, the same was said just now, or it is another key by now.

    The audit log has it where the outcome is another than before: that is what somebody will ask about.
    """
    policy.require_scope(caller, CREDENTIALS_LEASE)
    with registry.sessions.begin() as session:
        row = _leasable(session, caller, credential_id)
        now = log_time(session)
        _require_recent(report.at, now)
        health = report.health(now)
        # Nearly all say what is known: these hold nobody up.
        known = _overtaken(session, row, report, now) and _overtaken(session, row, report, now, lock=True)
        if known is not None:
            health = report.health(now)
            secret_rows.store_health(session, row.credential_id, health)
            _note(session, caller, row, known.health, health)
    return Reported(row.provider, kept=known is not None)


def _leasable(session: Session, caller: Caller, credential_id: str) -> CredentialRow:
    row = repository.credential_row(session, credential_id)
    if row is None or row.deleted_at is not None or not caller.belongs_to(row.org_id):
        raise not_found()
    return row


def _require_recent(at: datetime, now: datetime) -> None:
    if at > now + AHEAD_MAX:
        raise Refusal(Code.INVALID_REQUEST, "The time is in the future; look at the clock.", field="at")
    if at < now - AGE_MAX:
        raise Refusal(Code.INVALID_REQUEST, "The report is more than a day old.", field="at")


def _overtaken(
    session: Session, row: CredentialRow, report: Report, now: datetime, *, lock: bool = False
) -> KeyInUse | None:
    """What is known of the key in use, where the report takes its place; else None."""
    known = secret_rows.key_in_use(session, row.credential_id, lock=lock)
    if known is None or not report.is_of(known.since) or not is_news(report.health(now), known.health):
        return None
    return known


def _note(session: Session, caller: Caller, row: CredentialRow, before: Health | None, health: Health) -> None:
    was = None if before is None else before.outcome
    if was != health.outcome:
        audit.append(session, Entry(caller, Event.REPORT, subject_of(row), {"outcome": health.outcome, "before": was}))
