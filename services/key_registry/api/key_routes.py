"""Which key applies, and leases, over HTTP (docs/contract.md, section 8).

What runners ask all the time. Nothing here waits in a thread of its own: those who ask at once are answered together.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.domain.permissions import Caller
from services.domain.resolution import Use
from services.key_registry.api.answers import LeaseDocument, ResolutionDocument, lease_document, resolution_document
from services.key_registry.api.callers import Here, Lessee, Who, organization_of
from services.key_registry.api.requests import LeaseRequest, ResolveRequest
from services.key_registry.handlers import keys
from services.key_registry.metrics import LeaseTimes
from services.runtime.problems import PROBLEM_ANSWERS

router = APIRouter(prefix="/v1", responses=PROBLEM_ANSWERS, tags=["keys"])


async def _lease_times(request: Request) -> LeaseTimes:
    times: LeaseTimes = request.app.state.lease_times
    return times


Times = Annotated[LeaseTimes, Depends(_lease_times)]


@router.post("/resolve", summary="Which key applies, and why")
async def resolve(here: Here, who: Who, body: ResolveRequest) -> ResolutionDocument:
    """The answer for now or any other time; no secret."""
    use = _use(who, body, body.at)
    return resolution_document(await asyncio.wrap_future(keys.resolve_key(here, who, use, now=body.at is None)))


@router.post("/lease", summary="The key that applies, with its secret")
async def lease(here: Here, times: Times, who: Lessee, body: LeaseRequest, response: Response) -> LeaseDocument:
    """For runners: use the secret until ``expires_at``, keep it nowhere."""
    leased = await times.timed(asyncio.wrap_future(keys.lease_key(here, who, _use(who, body, None))))
    response.headers["Cache-Control"] = "no-store"
    return lease_document(leased)


def _use(caller: Caller, body: LeaseRequest, at: datetime | None) -> Use:
    # Without a time of the caller's own, the database says what time it is.
    return Use(
        org_id=organization_of(caller, body.org_id),
        team_id=body.team_id,
        user_id=body.user_id,
        provider=body.provider,
        at=at or datetime.now(UTC),
    )
