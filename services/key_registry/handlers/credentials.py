"""Adding, showing, relabelling and revoking credentials."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from pydantic import SecretStr
from sqlmodel import Session

from services.domain.directory import Directory, PlanHistory
from services.domain.scope import Interval, Plan, Scope, ScopeType
from services.key_registry import audit, policy, repository
from services.key_registry.audit import Entry, Event, Subject
from services.key_registry.changes import credential_change, hint
from services.key_registry.errors import Code, Refusal, not_found
from services.key_registry.handlers.refusals import backdated, refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry, card_for, check_backdating, start_of
from services.key_registry.models import CredentialRow
from services.key_registry.outbox import LogWriter
from services.key_registry.policy import Action, Actor
from services.key_registry.repository import CredentialFilter, scope_of
from services.runtime.logs import logger

_log = logger(__name__)


class NewCredential(NamedTuple):
    """A key to be added. Without ``effective_from`` it counts from now."""

    org_id: str
    scope: Scope
    provider: str
    secret: SecretStr
    label: str | None = None
    effective_from: datetime | None = None


class CredentialView(NamedTuple):
    """A credential as one caller sees it; ``hint`` and ``label`` are None where it may only know that there is one."""

    credential_id: str
    org_id: str
    scope: Scope
    provider: str
    label: str | None
    hint: str | None
    status: str
    active: tuple[Interval, ...]
    created_at: datetime


class CredentialPage(NamedTuple):
    """Part of a list; ``next_after`` continues it, None at its end."""

    items: tuple[CredentialView, ...]
    next_after: int | None


def _wanted(new: NewCredential) -> Subject:
    return Subject(new.org_id, None, new.scope, new.provider)


def _listed(wanted: CredentialFilter) -> Subject:
    return Subject(wanted.org_id)


@refusals_audited(Event.ADD, _wanted)
def add_credential(registry: Registry, actor: Actor, new: NewCredential) -> CredentialView:
    """Add a key. Refusals: CONTRACT section 8."""
    policy.require_organization(actor, new.org_id)
    if new.scope.type is ScopeType.ORGANIZATION and new.scope.id != new.org_id:
        raise Refusal(
            Code.INVALID_REQUEST, "An organization's key has the organization as its scope.", field="scope.id"
        )
    if not policy.may(actor, Action.ADD, new.org_id, new.scope):
        raise Refusal(Code.FORBIDDEN, f"You may not add a key of this {new.scope.type.value} scope.")
    check_backdating(actor, new.effective_from)
    credential_id = str(uuid.uuid4())
    with registry.sessions.begin() as session:
        log = LogWriter(session)
        active = Interval(start_of(new.effective_from, log.now), None)
        _check_addition(registry, session, new, active, log.now)
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
            fingerprint=registry.keyring.fingerprint(new.secret, new.org_id),
            created_by=actor.id,
            created_at=log.now,
            status=repository.ACTIVE,
        )
        log.append(credential_change(log.next_seq, log.now, repository.as_credential(row, (active,)), row.hint))
        sealed = registry.keyring.seal(new.secret, repository.binding_of(row, 1))
        repository.insert_credential(session, row, active, sealed)
        audit.append(session, Entry(actor, Event.ADD, _subject(row), backdated(new.effective_from)))
        view = _view(row, (active,), actor)
    _log.info("credential added", credential_id=credential_id, org_id=new.org_id, scope=new.scope.type.value)
    return view


@refusals_audited(Event.SHOW, unknown_credential)
def get_credential(registry: Registry, actor: Actor, credential_id: str) -> CredentialView:
    """One credential, as the caller may see it."""
    with registry.sessions.begin() as session:
        row = _visible(session, actor, credential_id)
        return _view(row, repository.intervals_of(session, [row])[credential_id], actor)


@refusals_audited(Event.LIST, _listed)
def list_credentials(
    registry: Registry, actor: Actor, wanted: CredentialFilter, *, after: int, limit: int
) -> CredentialPage:
    """A page of what the caller may see, in the order in which it was added."""
    policy.require_organization(actor, wanted.org_id)
    with registry.sessions.begin() as session:
        visible = policy.sight(actor, wanted.org_id)
        found = repository.list_credentials(session, wanted, visible, after, limit + 1)
        rows = found[:limit]
        active = repository.intervals_of(session, rows)
        items = tuple(_view(row, active[row.credential_id], actor) for row in rows)
    return CredentialPage(items, rows[-1].created_seq if len(found) > limit else None)


@refusals_audited(Event.RELABEL, unknown_credential)
def relabel_credential(registry: Registry, actor: Actor, credential_id: str, label: str | None) -> CredentialView:
    """Give a credential another label, or none. It moves no price, so it is not in the log."""
    with registry.sessions.begin() as session:
        row = _visible(session, actor, credential_id)
        if not policy.may(actor, Action.RELABEL, row.org_id, scope_of(row)):
            raise Refusal(Code.FORBIDDEN, "You may not change this credential.")
        row.label = label
        session.add(row)
        audit.append(session, Entry(actor, Event.RELABEL, _subject(row)))
        return _view(row, repository.intervals_of(session, [row])[credential_id], actor)


@refusals_audited(Event.REVOKE, unknown_credential)
def revoke_credential(registry: Registry, actor: Actor, credential_id: str) -> None:
    """End a credential now and destroy its secret; one that has ended stays as it is."""
    with registry.sessions.begin() as session:
        row = _visible(session, actor, credential_id)
        if not policy.may(actor, Action.REVOKE, row.org_id, scope_of(row)):
            raise Refusal(Code.FORBIDDEN, "You may not revoke this credential.")
        log = LogWriter(session)
        # Read again: somebody may have revoked it while we waited for the log.
        session.refresh(row)
        if row.status == repository.REVOKED:
            return
        repository.end_credential(session, row, log.now)
        ended = repository.as_credential(row, repository.intervals_of(session, [row])[credential_id])
        log.append(credential_change(log.next_seq, log.now, ended, row.hint))
        audit.append(session, Entry(actor, Event.REVOKE, _subject(row)))
    _log.info("credential revoked", credential_id=credential_id, org_id=row.org_id)


def _check_addition(registry: Registry, session: Session, new: NewCredential, active: Interval, now: datetime) -> None:
    card = card_for(registry.cards.cards(session), now)
    if new.provider not in card.own_key_providers:
        raise Refusal(Code.PROVIDER_NOT_SUPPORTED, "This provider does not take own keys.", field="provider")
    directory = Directory()
    directory.apply(1, PlanHistory(new.org_id, repository.plans_of(session, new.org_id)))
    plan = directory.plan_at(new.org_id, now)
    if not plan.allows(new.scope.type):
        raise Refusal(Code.PLAN_NOT_ENTITLED, f"The plan {plan.value} has no {new.scope.type.value} keys.")
    organization = Scope(ScopeType.ORGANIZATION, new.org_id)
    known = repository.credentials_in(session, new.org_id, {new.scope, organization}, new.provider)
    in_slot = [credential for credential in known if credential.scope == new.scope]
    if any(credential.active_at(now) for credential in in_slot):
        raise Refusal(Code.CREDENTIAL_EXISTS, "There is an active key for this scope and provider; rotate it instead.")
    if plan is Plan.ENTERPRISE and any(c.active_at(now) for c in known if c.scope == organization):
        raise Refusal(Code.ORGANIZATION_KEY_ENFORCED, "The organization's key for this provider is enforced.")
    if any(span.overlaps(active) for credential in in_slot for span in credential.active):
        raise Refusal(
            Code.CREDENTIAL_OVERLAP,
            "Another key was active for this scope and provider after that time.",
            field="effective_from",
        )


def _visible(session: Session, actor: Actor, credential_id: str) -> CredentialRow:
    row = repository.credential_row(session, credential_id)
    if row is None or not policy.may(actor, Action.SEE, row.org_id, scope_of(row)):
        raise not_found()
    return row


def _subject(row: CredentialRow) -> Subject:
    return Subject(row.org_id, row.credential_id, scope_of(row), row.provider, row.hint)


def _view(row: CredentialRow, active: tuple[Interval, ...], actor: Actor) -> CredentialView:
    shown = policy.may(actor, Action.SEE_HINT, row.org_id, scope_of(row))
    return CredentialView(
        credential_id=row.credential_id,
        org_id=row.org_id,
        scope=scope_of(row),
        provider=row.provider,
        label=row.label if shown else None,
        hint=row.hint if shown else None,
        status=row.status,
        active=active,
        created_at=row.created_at,
    )
