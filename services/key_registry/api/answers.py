"""The bodies of answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.key_registry.database.secrets import Check
from services.key_registry.handlers.audit import AuditPage, AuditView
from services.key_registry.handlers.credentials import CredentialPage
from services.key_registry.handlers.key_questions import Answer, Lease
from services.key_registry.handlers.plans import PlanView
from services.key_registry.handlers.views import CredentialView
from services.key_registry.rules.health import Health, Outcome
from services.key_registry.rules.standing import Status
from services.runtime.cursors import encode_cursor

PAGE_ITEMS_MAX = 200


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)


class ScopeDocument(_Answer):
    """Whose key it is."""

    type: ScopeType
    id: str


class IntervalDocument(_Answer):
    """Half-open ``[from, to)``; a ``to`` of null is open."""

    from_: datetime = Field(alias="from")
    to: datetime | None


class PlanIntervalDocument(IntervalDocument):
    """The plan that held in an interval."""

    plan: Plan


class CheckDocument(_Answer):
    """What the provider said of a key. Only ``invalid`` means that it refused it; ``unknown`` that it did not say."""

    result: Literal["valid", "invalid", "unknown"]
    reason: str
    checked_at: datetime


class HealthDocument(_Answer):
    """How a key fared at its provider, as runners reported it last. A rotation begins it anew."""

    outcome: Outcome
    at: datetime = Field(description="To the minute, while it fares as before.")
    detail: str | None


class VerificationDocument(CheckDocument):
    """The same, of one credential."""

    credential_id: str


class CredentialDocument(_Answer):
    """A credential.

    ``shadowed_by`` says what stands before a key whose status is ``shadowed``; ``check`` what the provider said last
    when it was asked; ``health`` how runners fared with the key; ``undo_until`` until when the key before the last
    rotation can be brought back. Hint, label and all from ``last_used_at`` on are null for those who may only know that
    there is one.
    """

    credential_id: str
    org_id: str
    scope: ScopeDocument
    provider: str
    label: str | None
    hint: str | None
    status: Status
    shadowed_by: Literal["organization_key", "plan_not_entitled", "provider_not_supported"] | None
    active: list[IntervalDocument]
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute.")
    check: CheckDocument | None
    health: HealthDocument | None
    undo_until: datetime | None


class CredentialPageDocument(_Answer):
    """Part of a list; ``next_cursor`` continues it, null at its end."""

    items: list[CredentialDocument]
    next_cursor: str | None


class ProvidersDocument(_Answer):
    """The providers that take own keys, by the rate card in force."""

    providers: list[str]
    verifiable: list[str] = Field(description="Those of them that can be asked whether they take a key.")
    rate_card: str


class PlanDocument(_Answer):
    """The plan of now and the whole history."""

    org_id: str
    plan: Plan
    plans: list[PlanIntervalDocument]


class ResolutionDocument(_Answer):
    """Which key applies, and why. ``credential_id`` and ``scope`` are null for the platform's."""

    org_id: str
    provider: str
    at: datetime
    plan: Plan
    source: Literal["byok", "platform"]
    reason: str
    credential_id: str | None
    scope: ScopeDocument | None


class LeaseDocument(ResolutionDocument):
    """The same with the secret, to be used until ``expires_at``; for the platform's key ``secret`` is null."""

    secret: str | None = Field(repr=False)
    expires_at: datetime
    ttl_seconds: int


class AuditDocument(_Answer):
    """Who did what with what, when, from where and why; ``code`` is why it was refused.

    ``omitted`` counts earlier refusals of the same caller that were too many to be listed. ``hash`` is of all fields
    and of the row before: whoever keeps one can prove later that nothing before it was changed.
    """

    seq: int
    occurred_at: datetime
    actor: str
    actor_org: str
    client_address: str | None
    request_id: str | None
    reason: str | None
    action: str
    outcome: Literal["done", "refused"]
    code: str | None
    omitted: int
    org_id: str | None
    credential_id: str | None
    scope: ScopeDocument | None
    provider: str | None
    hint: str | None
    detail: dict[str, Any]
    hash: str


class AuditPageDocument(_Answer):
    """Part of the audit log, the newest first; ``next_cursor`` continues it, null at its end."""

    items: list[AuditDocument]
    next_cursor: str | None


def credential_document(view: CredentialView) -> CredentialDocument:
    """A credential as it is answered."""
    return CredentialDocument(
        credential_id=view.credential_id,
        org_id=view.org_id,
        scope=_scope(view.scope),
        provider=view.provider,
        label=view.label,
        hint=view.hint,
        status=view.standing.status,
        shadowed_by=view.standing.shadowed_by,
        active=[IntervalDocument(**_bounds(interval)) for interval in view.active],
        created_at=_utc(view.created_at),
        last_used_at=_utc_or_none(view.last_used_at),
        check=None if view.check is None else check_document(view.check),
        health=None if view.health is None else _health_document(view.health),
        undo_until=_utc_or_none(view.undo_until),
    )


def check_document(check: Check) -> CheckDocument:
    """What the provider said, as it is answered."""
    return CheckDocument(result=check.result, reason=check.reason, checked_at=_utc(check.checked_at))


def _health_document(health: Health) -> HealthDocument:
    return HealthDocument(outcome=health.outcome, at=_utc(health.at), detail=health.detail)


def page_document(page: CredentialPage) -> CredentialPageDocument:
    """A page as it is answered."""
    cursor = None if page.next_after is None else encode_cursor(page.next_after)
    return CredentialPageDocument(items=[credential_document(item) for item in page.items], next_cursor=cursor)


def plan_document(view: PlanView) -> PlanDocument:
    """An organization's plans as they are answered."""
    return PlanDocument(org_id=view.org_id, plan=view.plan, plans=[_plan_interval(period) for period in view.history])


def resolution_document(answer: Answer) -> ResolutionDocument:
    """An answer to "which key, and why"."""
    return ResolutionDocument(**_resolution(answer))


def lease_document(lease: Lease) -> LeaseDocument:
    """A lease as it is answered: the one place where a secret leaves its mask."""
    return LeaseDocument(
        **_resolution(lease.answer),
        secret=None if lease.secret is None else lease.secret.get_secret_value(),
        expires_at=_utc(lease.expires_at),
        ttl_seconds=int(lease.ttl.total_seconds()),
    )


def audit_document(page: AuditPage) -> AuditPageDocument:
    """A page of the audit log as it is answered."""
    cursor = None if page.next_before is None else encode_cursor(page.next_before)
    return AuditPageDocument(items=[_audit_row(view) for view in page.items], next_cursor=cursor)


def _audit_row(view: AuditView) -> AuditDocument:
    row = view.row
    scope = None if row.scope_type is None or row.scope_id is None else Scope(ScopeType(row.scope_type), row.scope_id)
    told = row.model_dump(exclude={"occurred_at", "scope_type", "scope_id", "hint", "detail", "prev_hash", "hash"})
    return AuditDocument(
        **told,
        occurred_at=_utc(view.occurred_at),
        scope=None if scope is None else _scope(scope),
        hint=view.hint,
        detail=view.detail,
        hash=row.hash.hex(),
    )


def _resolution(answer: Answer) -> dict[str, Any]:
    credential = answer.resolution.credential
    return {
        "org_id": answer.use.org_id,
        "provider": answer.use.provider,
        "at": _utc(answer.use.at),
        "plan": answer.plan,
        "source": answer.resolution.key_source.value,
        "reason": answer.resolution.reason.value,
        "credential_id": None if credential is None else credential.credential_id,
        "scope": None if credential is None else _scope(credential.scope),
    }


def _scope(scope: Scope) -> ScopeDocument:
    return ScopeDocument(type=scope.type, id=scope.id)


def _plan_interval(period: PlanPeriod) -> PlanIntervalDocument:
    return PlanIntervalDocument(plan=period.plan, **_bounds(period.interval))


def _bounds(interval: Interval) -> dict[str, datetime | None]:
    return {"from_": _utc(interval.start), "to": _utc_or_none(interval.end)}


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _utc_or_none(at: datetime | None) -> datetime | None:
    return None if at is None else _utc(at)
