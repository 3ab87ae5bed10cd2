"""Adding, showing and revoking credentials."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import SecretStr
from sqlmodel import Session

from services.domain.permissions import Action, Caller, may, sight
from services.domain.scope import Interval, Scope, ScopeType
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.credentials import CredentialFilter
from services.key_registry.database.secrets import Check
from services.key_registry.database.sessions import one_moment
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.additions import Place, check_addition
from services.key_registry.handlers.editing import editing
from services.key_registry.handlers.once import Once, once_by
from services.key_registry.handlers.refusals import backdated, refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry, check_backdating, start_of
from services.key_registry.handlers.verification import verdict_detail
from services.key_registry.handlers.views import (
    CredentialView,
    subject_of,
    surroundings,
    view,
    views,
    visible,
)
from services.key_registry.keyring.envelopes import Binding
from services.key_registry.log.changes import credential_change, hint
from services.key_registry.log.outbox import LogWriter, log_time
from services.key_registry.rules import policy
from services.key_registry.rules.preconditions import ANY, Expected
from services.key_registry.rules.refusals import Code
from services.runtime.logs import logger
from services.runtime.refusals import Refusal

_log = logger(__name__)


class NewCredential(NamedTuple):
    """A key to be added. Without ``effective_from`` it counts from now."""

    org_id: str
    scope: Scope
    provider: str
    secret: SecretStr
    label: str | None = None
    effective_from: datetime | None = None


class CredentialPage(NamedTuple):
    """Part of a list; ``next_after`` continues it, None at its end."""

    items: tuple[CredentialView, ...]
    next_after: int | None


def _wanted(new: NewCredential) -> Subject:
    return Subject(new.org_id, None, new.scope, new.provider)


def _listed(wanted: CredentialFilter) -> Subject:
    return Subject(wanted.org_id)


@refusals_audited(Event.ADD, _wanted)
def add_credential(
    registry: Registry, caller: Caller, new: NewCredential, idempotency_key: str | None = None
) -> CredentialView:
    """Add a key. Refusals: docs/contract.md, section 8.

    Its provider is asked first, with no transaction open, and what it says is in the answer. It never stands in the
    way: a provider may refuse today what it takes tomorrow. Not asked about a key of the past: those come by thousands.
    """
    policy.require_organization(caller, new.org_id)
    if new.scope.type is ScopeType.ORGANIZATION and new.scope.id != new.org_id:
        raise Refusal(
            Code.INVALID_REQUEST, "An organization's key has the organization as its scope.", field="scope.id"
        )
    if not may(caller, Action.ADD, new.org_id, new.scope):
        raise Refusal(Code.FORBIDDEN, f"You may not add a key of this {new.scope.type.value} scope.")
    check_backdating(caller, new.effective_from)
    once = _once(registry, caller, new, idempotency_key)
    if (answered := once.answered(registry.sessions)) is not None:
        return answered
    place = Place(new.org_id, new.scope, new.provider)
    with registry.sessions.begin() as session:
        now = log_time(session)
        check_addition(registry, session, place, Interval(start_of(new.effective_from, now), None), now)
    verdict = registry.checks.first_check(new.provider, new.secret) if new.effective_from is None else None
    credential_id = str(uuid.uuid4())
    # Before the log is taken: the KEK may be a network away, and nobody could change anything meanwhile.
    sealed = registry.keyring.seal(
        new.secret, Binding(new.org_id, new.scope.type.value, new.scope.id, new.provider, credential_id, 1)
    )
    fingerprint = registry.keyring.fingerprint(new.secret, new.org_id)
    with registry.sessions.begin() as session:
        log = LogWriter(session)
        if (answered := once.answer(session)) is not None:
            return answered
        active = Interval(start_of(new.effective_from, log.now), None)
        check_addition(registry, session, place, active, log.now)
        row = CredentialRow(
            credential_id=credential_id,
            created_seq=log.next_seq,
            slot_id=repository.slot_id(session, new.org_id, new.scope, new.provider),
            org_id=new.org_id,
            scope_type=new.scope.type.value,
            scope_id=new.scope.id,
            provider=new.provider,
            label=new.label,
            hint=hint(new.secret.get_secret_value()),
            fingerprint=fingerprint,
            created_by=caller.id,
            created_at=log.now,
        )
        log.append(credential_change, repository.as_credential(row, (active,)), row.hint)
        check = None if verdict is None else Check(verdict.result, verdict.reason, log.now)
        repository.insert_credential(session, row, active, sealed, check)
        added = view(registry, session, row, caller, log.now)
        once.keep(session, added)
        audit.append(session, Entry(caller, Event.ADD, subject_of(row), _noted(new, check)))
    _log.info("credential added", credential_id=credential_id, org_id=new.org_id, scope=new.scope.type.value)
    return added


@refusals_audited(Event.SHOW, unknown_credential)
def get_credential(registry: Registry, caller: Caller, credential_id: str) -> CredentialView:
    """One credential, as the caller may see it."""
    with registry.sessions.begin() as session:
        one_moment(session)
        now = log_time(session)
        return view(registry, session, visible(session, caller, credential_id), caller, now)


@refusals_audited(Event.LIST, _listed)
def list_credentials(
    registry: Registry, caller: Caller, wanted: CredentialFilter, *, after: int, limit: int
) -> CredentialPage:
    """A page of what the caller may see, in the order in which it was added."""
    policy.require_organization(caller, wanted.org_id)
    with registry.sessions.begin() as session:
        one_moment(session)
        now = log_time(session)
        around = surroundings(registry, session, wanted.org_id, now)
        seen = sight(caller, wanted.org_id)
        found = repository.list_credentials(session, wanted, around, seen, after, limit + 1)
        rows = found[:limit]
        items = views(registry, session, wanted.org_id, rows, caller, now)
    return CredentialPage(items, rows[-1].created_seq if len(found) > limit else None)


@refusals_audited(Event.REVOKE, unknown_credential)
def revoke_credential(registry: Registry, caller: Caller, credential_id: str, expected: Expected = ANY) -> None:
    """End a credential now and destroy its secret; its history stays, and one that has ended stays as it is."""
    with editing(registry, caller, credential_id, Action.REVOKE) as edit:
        expected.require(edit.row.revision)
        if edit.row.deleted_at is not None:
            return
        end_credential(edit.session, edit.log, edit.row, caller)
    _log.info("credential revoked", credential_id=credential_id, org_id=edit.row.org_id)


def end_credential(session: Session, log: LogWriter, row: CredentialRow, caller: Caller) -> None:
    """End a credential that has not ended, in the transaction that has taken the log."""
    row.deleted_at = log.now
    row.revision += 1
    session.add(row)
    repository.switch_off(session, row, log.now)
    secret_rows.destroy_all(session, row.credential_id, log.now)
    ended = repository.as_credential(row, repository.intervals_of(session, [row])[row.credential_id])
    log.append(credential_change, ended, row.hint)
    audit.append(session, Entry(caller, Event.REVOKE, subject_of(row)))


def _noted(new: NewCredential, check: Check | None) -> dict[str, str | None]:
    return backdated(new.effective_from) if check is None else verdict_detail(check)


def _once(registry: Registry, caller: Caller, new: NewCredential, idempotency_key: str | None) -> Once:
    start = None if new.effective_from is None else new.effective_from.astimezone(UTC).isoformat()
    secret = new.secret.get_secret_value()
    request = (new.org_id, new.scope.type.value, new.scope.id, new.provider, secret, new.label, start)
    return once_by(registry.keyring, caller, idempotency_key, "add", *request)
