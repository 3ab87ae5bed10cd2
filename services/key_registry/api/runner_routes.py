"""What runners ask beside leases: what changed, and how keys fared (docs/contract.md, section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from schemas.fields import Id
from services.key_registry.api.answers import PAGE_ITEMS_MAX
from services.key_registry.api.callers import Here, Lessee
from services.key_registry.api.refusals import answers
from services.key_registry.api.requests import ReportRequest
from services.key_registry.api.runner_documents import ChangesDocument, ReportedDocument, changes_document
from services.key_registry.handlers import following, reports
from services.key_registry.log.reading import ChangePage
from services.key_registry.log.watching import ChangeWatch, Follower, TooManyWaitError
from services.key_registry.metrics import KeyReports
from services.key_registry.rules.refusals import Code
from services.runtime.problems import PROBLEM_ANSWERS, Problem

WAIT_SECONDS_MAX = 30
_SEQ_MAX = 2**63 - 1
_BUSY_SECONDS = 5

_T = TypeVar("_T")

router = APIRouter(prefix="/v1", responses=PROBLEM_ANSWERS, tags=["runners"])


async def _watch(request: Request) -> ChangeWatch:
    watch: ChangeWatch = request.app.state.watch
    return watch


async def _key_reports(request: Request) -> KeyReports:
    counted: KeyReports = request.app.state.key_reports
    return counted


@router.post(
    "/credentials/{credential_id}/reports",
    summary="How a key fared at its provider",
    responses=answers(200, Code.INSUFFICIENT_SCOPE, Code.NOT_FOUND, tagged=False),
)
def report_key(
    here: Here,
    who: Lessee,
    counted: Annotated[KeyReports, Depends(_key_reports)],
    credential_id: Annotated[Id, Path()],
    body: ReportRequest,
) -> ReportedDocument:
    """For services with the scope credentials:lease: what the provider made of a key that they leased. Shown with the
    credential as `health`, for those who are shown `check`. It changes nothing else: a key is switched off by people.
    """
    reported = reports.report_key(here, who, credential_id, body.to_domain())
    counted.count(reported.provider, body.outcome)
    return ReportedDocument(credential_id=credential_id, kept=reported.kept)


@router.get(
    "/changes",
    summary="What changed, and what changes next",
    responses=answers(200, Code.INSUFFICIENT_SCOPE, Code.AHEAD_OF_LOG, tagged=False),
)
async def get_changes(
    request: Request,
    here: Here,
    who: Lessee,
    watch: Annotated[ChangeWatch, Depends(_watch)],
    after: Annotated[
        int | None,
        Query(ge=0, le=_SEQ_MAX, description="The `next_after` of the answer before; absent: only where to begin."),
    ] = None,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=WAIT_SECONDS_MAX,
            allow_inf_nan=False,
            description="Where nothing is new, wait so many seconds for the next change; it is answered at once.",
        ),
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 100,
) -> ChangesDocument:
    """For services with the scope credentials:lease, so that runners drop leases at once. On a change of a credential:
    all of its organization and provider, "no key" included, for another key may apply now, and a rotation leaves
    `active` as it is. On one of a plan: all of its organization. In the order of `seq`, of the token's organization, or
    of all with `*`.

    Too many who wait are 503 `busy`: they ask without `wait` meanwhile. 409 `ahead_of_log`: drop all leases, and begin
    anew without `after`.
    """
    page = await run_in_threadpool(following.changes_after, here, who, after, limit=limit)
    if after is not None and wait > 0 and not page.changes and not page.more:
        follower = Follower(page.next_after, following.followed_by(who), limit)
        page = await _while_connected(request, _next_page(watch, follower, wait)) or page
    return changes_document(page)


async def _next_page(watch: ChangeWatch, follower: Follower, seconds: float) -> ChangePage:
    try:
        return await watch.next_page(follower, seconds)
    except TooManyWaitError:
        detail = "Too many wait for changes; ask without wait, or again in a few seconds."
        raise Problem(503, "busy", detail, headers={"Retry-After": str(_BUSY_SECONDS)}) from None


async def _while_connected(request: Request, work: Coroutine[None, None, _T]) -> _T | None:
    """What ``work`` returns; None, with ``work`` cancelled, where the client goes away meanwhile."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
