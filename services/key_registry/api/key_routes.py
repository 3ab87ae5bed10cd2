"""Which key applies, and leases, over HTTP (docs/contract.md, section 8).

What runners ask all the time. Nothing here waits in a thread of its own: those who ask at once are answered together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from services.domain.permissions import Caller
from services.domain.resolution import Use
from services.key_registry.api.answers import LeaseDocument, ResolutionDocument, lease_document, resolution_document
from services.key_registry.api.callers import Lessee, Who, organization_of
from services.key_registry.api.requests import LeaseRequest, ResolveRequest
from services.key_registry.api.straight_route import StraightRoute
from services.key_registry.handlers import keys
from services.runtime.problems import PROBLEM_ANSWERS

router = APIRouter(prefix="/v1", responses=PROBLEM_ANSWERS, tags=["keys"], route_class=StraightRoute)


@router.post("/resolve", summary="Which key applies, and why", response_model=ResolutionDocument)
async def resolve(request: Request, who: Who, body: ResolveRequest) -> Response:
    """The answer for now or any other time; no secret."""
    use, registry = _use(who, body, body.at), request.app.state.registry
    answer = await asyncio.wrap_future(keys.resolve_key(registry, who, use, now=body.at is None))
    return _answered(resolution_document(answer))


@router.post("/lease", summary="The key that applies, with its secret", response_model=LeaseDocument)
async def lease(request: Request, who: Lessee, body: LeaseRequest) -> Response:
    """For runners: use the secret until ``expires_at``, keep it nowhere."""
    use, registry, times = _use(who, body, None), request.app.state.registry, request.app.state.lease_times
    leased = await times.timed(asyncio.wrap_future(keys.lease_key(registry, who, use)))
    return _answered(lease_document(leased), {"Cache-Control": "no-store"})


def _answered(document: ResolutionDocument, headers: Mapping[str, str] | None = None) -> Response:
    return Response(document.model_dump_json(), headers=headers, media_type="application/json")


def _use(caller: Caller, body: LeaseRequest, at: datetime | None) -> Use:
    # Without a time of the caller's own, the database says what time it is.
    return Use(
        org_id=organization_of(caller, body.org_id),
        team_id=body.team_id,
        user_id=body.user_id,
        provider=body.provider,
        at=at or datetime.now(UTC),
    )
