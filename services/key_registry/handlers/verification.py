"""Asking the provider whether it takes a key that is stored."""

from __future__ import annotations

from services.domain.permissions import Action, Caller
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.secrets import Check
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.secrets import current_secret
from services.key_registry.handlers.views import require, require_undeleted, subject_of, visible
from services.key_registry.log.outbox import log_time


@refusals_audited(Event.VERIFY, unknown_credential)
def verify_credential(registry: Registry, caller: Caller, credential_id: str) -> Check:
    """Ask now, and keep the answer. While the provider is waited for, no transaction is open and no lock is held."""
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        require(caller, row, Action.VERIFY)
        require_undeleted(row)
        version, secret = current_secret(registry, session, row)
    verdict = registry.checks.check(row.provider, secret)
    del secret
    with registry.sessions.begin() as session:
        check = Check(verdict.result, verdict.reason, log_time(session))
        # Of the version that was asked about: a rotation may have come between.
        secret_rows.store_check(session, credential_id, version, check)
        audit.append(session, Entry(caller, Event.VERIFY, subject_of(row), verdict_detail(check)))
    return check


def verdict_detail(check: Check) -> dict[str, str | None]:
    """What the audit log says of a check."""
    return {"result": check.result, "reason": check.reason}
