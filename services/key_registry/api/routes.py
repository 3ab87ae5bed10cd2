"""The registry over HTTP (docs/contract.md, section 8): requests in, use cases called, refusals told as problems."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Response
from prometheus_client import CollectorRegistry

from schemas.fields import Id, Time
from services.domain.scope import Plan, ScopeType
from services.key_registry.api import key_routes, model_routes, runner_routes, session_routes
from services.key_registry.api.answers import (
    PAGE_ITEMS_MAX,
    AuditPageDocument,
    CredentialDocument,
    CredentialPageDocument,
    PlanDocument,
    ProvidersDocument,
    VerificationDocument,
    audit_document,
    check_document,
    credential_document,
    page_document,
    plan_document,
)
from services.key_registry.api.callers import CallLimits, Here, Who, organization_of
from services.key_registry.api.refusals import ADDED, CHANGED, answers, install_refusals
from services.key_registry.api.requests import (
    ChangeRequest,
    CredentialRequest,
    PlanRequest,
    RotationRequest,
)
from services.key_registry.audit.rows import AuditFilter
from services.key_registry.audit.trail import Event
from services.key_registry.database.credentials import CredentialFilter
from services.key_registry.handlers import (
    audit,
    cards,
    changes,
    credentials,
    following,
    plans,
    rotation,
    verification,
)
from services.key_registry.handlers.credentials import NewCredential
from services.key_registry.handlers.plans import PlanView
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.views import CredentialView
from services.key_registry.log.watching import ChangeWatch
from services.key_registry.metrics import KeyReports, LeaseTimes
from services.key_registry.rules.preconditions import Expected, entity_tag, expected_by
from services.key_registry.rules.refusals import Code
from services.key_registry.rules.standing import Status
from services.runtime.cursors import decode_cursor
from services.runtime.problems import PROBLEM_ANSWERS
from services.runtime.refusals import Refusal
from services.runtime.request_bodies import BodyBounds
from services.runtime.tokens import TokenVerifier
from services.runtime.web import ReadinessCheck, create_app, is_stopping

BODY_BYTES_MAX = 64 * 1024
_SEQ_MAX = 2**63 - 1


CredentialId = Annotated[Id, Path()]
OrgId = Annotated[Id, Path()]


async def _expected(
    if_match: Annotated[
        str | None, Header(max_length=1024, description="The ETag that you saw: the change is made to that state only.")
    ] = None,
) -> Expected:
    return expected_by(if_match)


IfMatch = Annotated[Expected, Depends(_expected)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Sent again with the same key within 24 hours, the same request gets the same answer.",
    ),
]

router = APIRouter(prefix="/v1", responses=PROBLEM_ANSWERS)


@router.post(
    "/credentials",
    status_code=201,
    tags=["credentials"],
    summary="Add a key",
    responses=answers(201, *ADDED, Code.CREDENTIAL_OVERLAP, Code.FORBIDDEN, Code.IDEMPOTENCY_KEY_REUSED),
)
def add_credential(
    here: Here, who: Who, body: CredentialRequest, response: Response, idempotency_key: IdempotencyKey = None
) -> CredentialDocument:
    """Add an organization's, a team's or a person's key; it applies from now on."""
    new = NewCredential(
        org_id=organization_of(who, body.org_id),
        scope=body.scope.to_domain(),
        provider=body.provider,
        secret=body.api_key,
        label=body.label,
        effective_from=body.effective_from,
    )
    added = credentials.add_credential(here, who, new, idempotency_key)
    response.headers["Location"] = f"/v1/credentials/{added.credential_id}"
    return _tagged(added, response)


@router.get("/credentials", tags=["credentials"], summary="List keys")
def list_credentials(
    here: Here,
    who: Who,
    org_id: Annotated[Id | None, Query(description="Needed where the token is good for every organization.")] = None,
    scope_type: Annotated[ScopeType | None, Query()] = None,
    scope_id: Annotated[Id | None, Query()] = None,
    provider: Annotated[Id | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 50,
) -> CredentialPageDocument:
    """What the caller may see, in the order in which it was added."""
    wanted = CredentialFilter(organization_of(who, org_id), scope_type, scope_id, provider, status)
    page = credentials.list_credentials(here, who, wanted, after=_after(cursor), limit=limit)
    return page_document(page)


@router.get(
    "/credentials/{credential_id}", tags=["credentials"], summary="Show a key", responses=answers(200, Code.NOT_FOUND)
)
def get_credential(here: Here, who: Who, credential_id: CredentialId, response: Response) -> CredentialDocument:
    """Everything about a key but the key itself; the ETag is for If-Match."""
    return _tagged(credentials.get_credential(here, who, credential_id), response)


@router.patch(
    "/credentials/{credential_id}",
    tags=["credentials"],
    summary="Relabel a key, switch it off or on",
    responses=answers(200, *CHANGED, *ADDED, Code.CREDENTIAL_DELETED, Code.HISTORY_TOO_LONG),
)
def change_credential(
    here: Here, who: Who, credential_id: CredentialId, body: ChangeRequest, expected: IfMatch, response: Response
) -> CredentialDocument:
    """All that the request says, or nothing. A key that is switched off is kept, and not used."""
    return _tagged(changes.change_credential(here, who, credential_id, body.to_edit(), expected), response)


@router.delete(
    "/credentials/{credential_id}",
    status_code=204,
    tags=["credentials"],
    summary="Revoke a key",
    responses=answers(204, *CHANGED),
)
def revoke_credential(here: Here, who: Who, credential_id: CredentialId, expected: IfMatch) -> None:
    """End the key now and destroy it; its history remains."""
    credentials.revoke_credential(here, who, credential_id, expected)


@router.post(
    "/credentials/{credential_id}/rotate",
    tags=["credentials"],
    summary="Put another key in its place",
    responses=answers(
        200, *CHANGED, Code.CREDENTIAL_DELETED, Code.KEY_INVALID, Code.KEY_UNCHANGED, Code.IDEMPOTENCY_KEY_REUSED
    ),
)
def rotate_credential(
    here: Here,
    who: Who,
    credential_id: CredentialId,
    body: RotationRequest,
    expected: IfMatch,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> CredentialDocument:
    """The provider is asked first: a key that it refuses is 422 ``key_invalid``, and ``check`` says what else it said.

    The key before can be brought back until ``undo_until``; then it is destroyed.
    """
    rotated = rotation.rotate_credential(here, who, credential_id, body.api_key, expected, idempotency_key)
    return _tagged(rotated, response)


@router.post(
    "/credentials/{credential_id}/rotate/undo",
    tags=["credentials"],
    summary="Bring the key before back",
    responses=answers(200, *CHANGED, Code.CREDENTIAL_DELETED, Code.NOTHING_TO_UNDO),
)
def undo_rotation(
    here: Here, who: Who, credential_id: CredentialId, expected: IfMatch, response: Response
) -> CredentialDocument:
    """The key that was rotated in is destroyed. 409 ``nothing_to_undo`` after ``undo_until``."""
    return _tagged(rotation.undo_rotation(here, who, credential_id, expected), response)


@router.post("/credentials/{credential_id}/verify", tags=["credentials"], summary="Ask the provider about a key")
def verify_credential(here: Here, who: Who, credential_id: CredentialId) -> VerificationDocument:
    """One cheap request with the key, which costs nothing. ``unknown`` says nothing against the key."""
    check = verification.verify_credential(here, who, credential_id)
    return VerificationDocument(credential_id=credential_id, **check_document(check).model_dump())


@router.get("/providers", tags=["keys"], summary="The providers that take own keys")
def providers(here: Here, _who: Who) -> ProvidersDocument:
    """By the rate card in force."""
    found = cards.list_providers(here)
    return ProvidersDocument(
        providers=list(found.providers), verifiable=list(found.verifiable), rate_card=found.rate_card
    )


@router.get(
    "/organizations/{org_id:path}/plan",
    tags=["plans"],
    summary="The plan of an organization",
    responses=answers(200, Code.ORGANIZATION_FORBIDDEN),
)
def get_plan(here: Here, who: Who, org_id: OrgId, response: Response) -> PlanDocument:
    """The plan of now and the whole history; the ETag is for If-Match."""
    return _tagged_plan(plans.get_plan(here, who, org_id), response)


@router.put(
    "/organizations/{org_id:path}/plan",
    tags=["plans"],
    summary="Put an organization on a plan",
    responses=answers(200, Code.ORGANIZATION_FORBIDDEN, Code.INSUFFICIENT_SCOPE, Code.PRECONDITION_FAILED),
)
def set_plan(
    here: Here, who: Who, org_id: OrgId, body: PlanRequest, expected: IfMatch, response: Response
) -> PlanDocument:
    """From now on, or backdated in place of whatever stood after that time. Keys stay as they are."""
    return _tagged_plan(plans.set_plan(here, who, org_id, Plan(body.plan), body.effective_from, expected), response)


@router.get("/audit", tags=["audit"], summary="Who did what with which key")
def list_audit(
    here: Here,
    who: Who,
    org_id: Annotated[Id | None, Query(description="Absent: all that the token is good for.")] = None,
    actor: Annotated[Id | None, Query(description="The sub of the token.")] = None,
    action: Annotated[
        list[Event] | None, Query(max_length=20, description="Given several times: any of these.")
    ] = None,
    credential_id: Annotated[Id | None, Query()] = None,
    outcome: Annotated[Literal["done", "refused"] | None, Query()] = None,
    from_: Annotated[Time | None, Query(alias="from", description="At or after this time.")] = None,
    to: Annotated[Time | None, Query(description="Before this time.")] = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 50,
) -> AuditPageDocument:
    """The newest first. For admins of the organization, and services with the scope credentials:write."""
    of = org_id if who.is_everywhere else organization_of(who, org_id)
    wanted = AuditFilter(of, actor, action, credential_id, outcome, from_, to)
    before = None if cursor is None else _after(cursor)
    return audit_document(audit.list_audit(here, who, wanted, before=before, limit=limit))


def registry_app(
    registry: Registry,
    tokens: TokenVerifier,
    metrics: CollectorRegistry,
    checks: Mapping[str, ReadinessCheck],
    limits: CallLimits,
    bodies: BodyBounds,
    impaired: Mapping[str, ReadinessCheck] | None = None,
) -> FastAPI:
    """The web application of the key registry."""
    app = create_app(
        title="BYOK key registry",
        description="Whose LLM key applies when; the keys themselves, encrypted; plans and providers.",
        metrics=metrics,
        checks=checks,
        bodies=bodies,
        impaired=impaired,
    )
    app.state.registry = registry
    app.state.tokens = tokens
    app.state.limits = limits
    app.state.lease_times = LeaseTimes(metrics)
    app.state.key_reports = KeyReports(metrics)
    app.state.watch = ChangeWatch(partial(following.read_changes, registry), limits.waits, lambda: is_stopping(app))
    # First those that are asked all the time, and not as a router: routes are looked through in their order, and those
    # of a router twice.
    app.router.routes[:0] = key_routes.router.routes
    app.include_router(router)
    app.include_router(model_routes.router)
    app.include_router(runner_routes.router)
    app.include_router(session_routes.router)
    install_refusals(app)
    return app


def _tagged(view: CredentialView, response: Response) -> CredentialDocument:
    response.headers["ETag"] = entity_tag(view.revision)
    return credential_document(view)


def _tagged_plan(view: PlanView, response: Response) -> PlanDocument:
    response.headers["ETag"] = entity_tag(view.revision)
    return plan_document(view)


def _after(cursor: str | None) -> int:
    try:
        after = 0 if cursor is None else decode_cursor(cursor)
    except ValueError:
        after = None
    if type(after) is not int or not 0 <= after <= _SEQ_MAX:
        raise Refusal(Code.INVALID_REQUEST, "This is not a cursor of ours.", field="cursor")
    return after
