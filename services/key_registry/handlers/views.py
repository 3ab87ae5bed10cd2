"""Credentials as one caller sees them, and what every use case about one credential begins with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session

from services.domain.directory import PlanHistory
from services.domain.permissions import Action, Caller, may
from services.domain.scope import Interval, Scope
from services.key_registry.audit.trail import Subject
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.credentials import OfCredential, scope_of
from services.key_registry.database.secrets import Check, SecretState
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.rules.health import Health
from services.key_registry.rules.refusals import Code, not_found
from services.key_registry.rules.standing import Standing, Surroundings
from services.runtime.refusals import Refusal


class CredentialView(NamedTuple):
    """A credential as one caller sees it.

    Whoever may only know that there is one sees no label, no hint, no check, no health, no use and no way
    back: all are None.
    """

    credential_id: str
    org_id: str
    scope: Scope
    provider: str
    label: str | None
    hint: str | None
    standing: Standing
    active: tuple[Interval, ...]
    created_at: datetime
    last_used_at: datetime | None
    check: Check | None
    undo_until: datetime | None
    """Until when the key before the last rotation can be brought back."""
    revision: int
    health: Health | None = None
    """What runners reported last of the key in use; an answer that is kept may be from before there was any."""


def views(
    registry: Registry, session: Session, org_id: str, rows: Sequence[CredentialRow], caller: Caller, now: datetime
) -> tuple[CredentialView, ...]:
    """These credentials of one organization as they stand ``now``, which must be the time of what the session reads."""
    if not rows:
        return ()
    around = surroundings(registry, session, org_id, now)
    active = repository.intervals_of(session, rows)
    secrets = secret_rows.states_of(session, rows, now)
    return tuple(_view(row, active[row.credential_id], secrets[row.credential_id], around, caller) for row in rows)


def view(registry: Registry, session: Session, row: CredentialRow, caller: Caller, now: datetime) -> CredentialView:
    """One of them."""
    return views(registry, session, row.org_id, [row], caller, now)[0]


def surroundings(registry: Registry, session: Session, org_id: str, now: datetime) -> Surroundings:
    """What decides at ``now`` whether a key of the organization that is switched on is used."""
    return Surroundings(
        plan=PlanHistory(org_id, repository.plans_of(session, org_id)).plan_at(now),
        own_key_providers=frozenset(card_for(registry.cards.cards(session), now).own_key_providers),
        organization_key_providers=repository.organization_key_providers(session, org_id),
    )


def visible(session: Session, caller: Caller, credential_id: str) -> CredentialRow:
    """The credential, if the caller may know of it."""
    row = repository.credential_row(session, credential_id)
    if row is None or not may(caller, Action.SEE, row.org_id, scope_of(row)):
        raise not_found()
    return row


def require(caller: Caller, row: CredentialRow, *actions: Action) -> None:
    """Raise Refusal ``forbidden`` unless the caller may do all of ``actions`` with the credential."""
    for action in actions:
        if not may(caller, action, row.org_id, scope_of(row)):
            raise Refusal(Code.FORBIDDEN, f"You may not {action.name.lower()} this credential.")


def subject_of(row: OfCredential) -> Subject:
    """The credential in the words of the audit log."""
    return Subject(row.org_id, row.credential_id, scope_of(row), row.provider, row.hint)


def require_undeleted(row: CredentialRow) -> None:
    """Raise Refusal ``credential_deleted`` where its secret is gone for good."""
    if row.deleted_at is not None:
        raise Refusal(Code.CREDENTIAL_DELETED, "This credential is deleted; add a new one.")


def _view(
    row: CredentialRow, active: tuple[Interval, ...], secret: SecretState, around: Surroundings, caller: Caller
) -> CredentialView:
    scope = scope_of(row)
    shown = may(caller, Action.SEE_HINT, row.org_id, scope)
    enabled = any(interval.end is None for interval in active)
    return CredentialView(
        credential_id=row.credential_id,
        org_id=row.org_id,
        scope=scope,
        provider=row.provider,
        label=row.label if shown else None,
        hint=row.hint if shown else None,
        standing=around.standing(
            scope.type, row.provider, deleted=row.deleted_at is not None, enabled=enabled, lost=not secret.held
        ),
        active=active,
        created_at=row.created_at,
        last_used_at=row.last_used_at if shown else None,
        check=secret.check if shown else None,
        undo_until=secret.undo_until if shown else None,
        revision=row.revision,
        health=secret.health if shown else None,
    )
