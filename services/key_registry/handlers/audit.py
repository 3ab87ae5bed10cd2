"""Reading the audit log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.domain.permissions import Action, Caller, may
from services.domain.scope import Scope, ScopeType
from services.key_registry.audit import rows as audit_rows
from services.key_registry.audit.rows import AuditFilter
from services.key_registry.audit.trail import Event, Subject
from services.key_registry.database.tables import AuditRow
from services.key_registry.handlers.refusals import refusals_audited
from services.key_registry.handlers.registry import Registry
from services.key_registry.rules import policy


class AuditView(NamedTuple):
    """One row as one caller sees it; ``hint`` is None where it may only know that there is a key."""

    row: AuditRow
    occurred_at: datetime
    hint: str | None
    detail: dict[str, Any]


class AuditPage(NamedTuple):
    """Part of the log, the newest first; ``next_before`` continues it, None at its end."""

    items: tuple[AuditView, ...]
    next_before: int | None


def _subject(wanted: AuditFilter) -> Subject:
    return Subject(wanted.org_id)


@refusals_audited(Event.READ_AUDIT, _subject)
def list_audit(registry: Registry, caller: Caller, wanted: AuditFilter, *, before: int | None, limit: int) -> AuditPage:
    """A page of what is wanted: for admins of the organization, and services that manage its keys.

    Without an organization it is the log of all of them, for services that are good for every organization.
    """
    policy.require_audit(caller, wanted.org_id)
    with registry.sessions.begin() as session:
        found = audit_rows.list_rows(session, wanted, before, limit + 1)
    rows = found[:limit]
    return AuditPage(tuple(_view(row, caller) for row in rows), _next(rows, more=len(found) > limit))


def _next(rows: Sequence[AuditRow], *, more: bool) -> int | None:
    return rows[-1].seq if more else None


def _view(row: AuditRow, caller: Caller) -> AuditView:
    detail = {} if row.detail is None else json.loads(row.detail)
    return AuditView(row, row.occurred_at, row.hint if _shows_hint(row, caller) else None, detail)


def _shows_hint(row: AuditRow, caller: Caller) -> bool:
    if row.org_id is None or row.scope_type is None or row.scope_id is None:
        return False
    return may(caller, Action.SEE_HINT, row.org_id, Scope(ScopeType(row.scope_type), row.scope_id))
