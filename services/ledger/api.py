"""The ledger's HTTP API (docs/contract.md, section 8): thin routes over the handlers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from schemas.dead_letters import Reason
from schemas.fields import Id
from services.domain.permissions import Caller
from services.ledger import responses
from services.ledger.admission import DoorReason
from services.ledger.event_schemas import REQUEST_BODY, USAGE_TYPES
from services.ledger.explanation import utc
from services.ledger.export import JSON_OPTIONS, table_lines
from services.ledger.export_response import POSITION_HEADER, ExportResponse
from services.ledger.feed_waiting import first_news
from services.ledger.handlers import Handlers
from services.ledger.query import (
    DeadLettersPageQuery,
    DeadLettersQuery,
    EntriesQuery,
    ExportQuery,
    FeedQuery,
    OrganizationsQuery,
    StatementQuery,
    SummaryQuery,
    WhatIfQuery,
)
from services.ledger.quotes import QuoteRequest
from services.ledger.refusals import Code
from services.ledger.statement import CSV_COLUMNS, CSV_NUMBERS, csv_rows
from services.messages.cloudevents import CONTENT_TYPE, is_binary, of_request
from services.runtime.database import is_outage
from services.runtime.logs import logger
from services.runtime.problems import PROBLEM_ANSWERS, Problem, answer_refusals, problem_response
from services.runtime.rate_limit import RateLimit
from services.runtime.tokens import Authenticated

_log = logger(__name__)

_CSV = "text/csv; charset=utf-8; header=present"
_EXPORT_TYPES = {"csv": _CSV, "jsonl": "application/jsonl", "focus": _CSV}
_EXPORT_NAMES = {"csv": "entries.csv", "jsonl": "entries.jsonl", "focus": "focus.csv"}
_POSITION = {
    POSITION_HEADER: {"description": "Up to which position in the feed it counts.", "schema": {"type": "integer"}}
}


STATUS: Mapping[StrEnum, int] = {
    Code.NOT_FOUND: 404,
    Code.INSUFFICIENT_SCOPE: 403,
    Code.ORGANIZATION_FORBIDDEN: 403,
    Code.QUOTE_FORBIDDEN: 403,
    Code.ORGANIZATION_REQUIRED: 422,
    Code.INVALID_CURSOR: 422,
    Code.INVALID_GROUP: 422,
    Code.TOO_MANY_GROUPS: 422,
    Code.AHEAD_OF_LEDGER: 409,
    Code.UNKNOWN_TIME_ZONE: 422,
    Code.BUSY: 503,
    Code.BROKER_UNAVAILABLE: 503,
    **dict.fromkeys(Reason, 422),
    Reason.MALFORMED_JSON: 400,
    Reason.BATCH_TOO_LARGE: 413,
    DoorReason.DEAD_LETTER_QUOTA: 429,
}
"""The HTTP status of each code that a use case refuses with."""


def _sender(request: Request, caller: Authenticated) -> Caller:
    limit: RateLimit = request.app.state.ingest_limit
    limit.admit(caller)
    return caller


def _handlers(request: Request) -> Handlers:
    handlers: Handlers = request.app.state.handlers
    return handlers


async def _body(request: Request) -> bytes:
    media_type = request.headers.get(CONTENT_TYPE, "").partition(";")[0].strip().lower()
    # In binary mode it is that of the data, which is JSON where nothing is said.
    if media_type not in USAGE_TYPES and not (media_type == "" and is_binary(request.headers)):
        raise Problem(415, "unsupported_media_type", f"Content-Type must be one of {', '.join(USAGE_TYPES)}.")
    return of_request(await request.body(), request.headers)


Sender = Annotated[Caller, Depends(_sender)]
CurrentHandlers = Annotated[Handlers, Depends(_handlers)]
Organization = Annotated[Id, Path(description="Whose ledger.")]

router = APIRouter(prefix="/v1", tags=["ledger"], responses=PROBLEM_ANSWERS)


@router.post(
    "/usage-events",
    status_code=202,
    summary="Hand in usage events",
    response_model=responses.Accepted,
    responses={207: {"model": responses.PartlyAccepted}},
    openapi_extra={"requestBody": REQUEST_BODY},
)
def post_usage_events(
    caller: Sender, body: Annotated[bytes, Depends(_body)], handlers: CurrentHandlers
) -> JSONResponse:
    """202 once the broker has all of it on every in-sync replica. Repeating a request is safe: ids count once.

    207 where some events are good and were taken, and others are not and were not: `errors` names each of these by its
    place in the batch. A problem where none was taken: 429 `dead_letter_quota` where too many of the organization's
    events were refused within the hour, so that good ones come too early.
    """
    request = handlers.accept_usage(caller, body)
    answer: dict[str, Any] = {"accepted": len(request.accepted)}
    if not request.rejected:
        return JSONResponse(answer, 202)
    return JSONResponse(answer | {"refused": len(request.rejected), "errors": request.errors}, 207)


@router.get(
    "/organizations/{org_id:path}/entries", summary="Entries, page by page", response_model=responses.EntriesPage
)
def get_entries(
    org_id: Organization, query: Annotated[EntriesQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """Services see all with the scope ledger:read; admins their organization; members their own and their teams'.

    `credential_id` is null, too, where the key registry would not show the caller that key."""
    page = handlers.list_entries(caller, org_id, query)
    body = page._asdict() | {"entries": [dict(row) for row in page.entries]}
    return Response(orjson.dumps(body, option=JSON_OPTIONS), media_type="application/json")


@router.get("/entries", summary="The feed: every entry in its place", response_model=responses.FeedPage)
async def get_feed(
    request: Request, query: Annotated[FeedQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """Asked for on and on, each time after `next_position` of the page before, it misses no entry and repeats none.

    For services with the scope ledger:read: of every organization, or of the one that the token is good for; then
    `next_position` also passes by what is others', and a page may be empty before the end is reached, which is where
    `next_position` stays. Load by `entry_id`, and heed `void_after`, for the day on which the ledger is restored.
    """
    page = await first_news(query, partial(handlers.feed, caller), request.is_disconnected)
    body = page._asdict() | {"entries": [dict(row) for row in page.entries]}
    return Response(orjson.dumps(body, option=JSON_OPTIONS), media_type="application/json")


@router.get(
    "/organizations/{org_id:path}/dead-letters",
    summary="What was refused of an organization, page by page",
    response_model=responses.DeadLettersPage,
)
def get_dead_letters(
    org_id: Organization,
    query: Annotated[DeadLettersPageQuery, Query()],
    caller: Authenticated,
    handlers: CurrentHandlers,
) -> Response:
    """The newest first, without their payloads. For services with the scope ledger:read.

    Whose an event is, is what it says itself, as far as that could be read: nobody can check it of what was refused."""
    page = handlers.page_dead_letters(caller, org_id, query)
    letters = [{name: letter[name] for name in responses.DeadLetter.model_fields} for letter in page.entries]
    body = {"dead_letters": letters, "next_cursor": page.next_cursor}
    return Response(orjson.dumps(body, option=JSON_OPTIONS), media_type="application/json")


@router.get(
    "/organizations/{org_id:path}/dead-letter-counts",
    summary="How many events were refused, by reason",
    response_model=responses.DeadLetterCounts,
)
def get_dead_letter_counts(
    org_id: Organization, query: Annotated[DeadLettersQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """Of the same dead letters that the list of them has; for services with the scope ledger:read."""
    by_reason = handlers.count_dead_letters(caller, org_id, query)
    return exact_json({"total": sum(by_reason.values()), "by_reason": by_reason})


@router.get("/organizations", summary="The organizations there are", response_model=responses.Organizations)
def get_organizations(
    query: Annotated[OrganizationsQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """In the order of their ids: every one that has a plan, a key or an entry. For services with the scope ledger:read
    that are good for every organization; others are told of their own."""
    return exact_json(handlers.list_organizations(caller, query))


@router.get("/organizations/{org_id:path}/summary", summary="Exact sums in groups", response_model=responses.Summary)
def get_summary(
    org_id: Organization, query: Annotated[SummaryQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """Sums over entries of every kind are right, grouped by anything; `events` counts each event once.

    They are the sums of the entries up to `position` in the feed, all of them: of what the caller may see."""
    return exact_json(handlers.summarize(caller, org_id, query))


@router.get(
    "/organizations/{org_id:path}/what-if",
    summary="What own keys would have saved",
    response_model=responses.WhatIf,
)
def get_what_if(
    org_id: Organization, query: Annotated[WhatIfQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """From real use that was charged to the platform's keys, for providers that take own ones: by the card of each
    entry. For people their own keys, for members those of their teams, for whoever sees all of the organization each
    team's and the organization's. Exact for node calls; of tokens to within `within_mc`, the roundings of entries."""
    return exact_json(handlers.what_if(caller, org_id, query))


@router.get(
    "/organizations/{org_id:path}/export",
    summary="All entries as CSV, JSON Lines or FOCUS 1.2",
    response_class=StreamingResponse,
    responses={200: {"content": {media_type: {} for media_type in _EXPORT_TYPES.values()}, "headers": _POSITION}},
)
def get_export(
    request: Request,
    org_id: Organization,
    query: Annotated[ExportQuery, Query()],
    caller: Authenticated,
    handlers: CurrentHandlers,
) -> ExportResponse:
    """Oldest first, of one moment: all entries up to the position that the header `Byok-Position` says, and no others.

    With `after`, in the order of their positions, each with its own: ask again after the last one where a file broke
    off, which then ends without the end of the chunked coding, and after `Byok-Position` for what is new. 409
    `ahead_of_ledger`: the ledger was restored to less.

    In CSV and FOCUS, text that a spreadsheet would take for a formula, or that begins with an apostrophe, has an
    apostrophe before it; JSON Lines are exact. FOCUS has a row for each priced unit of an entry: costs in USD, exact,
    with the sums of the ledger; `ListCost` less `EffectiveCost` is the saving.
    """
    return ExportResponse(
        handlers.export(caller, org_id, query),
        seconds_max=request.app.state.export_seconds,
        media_type=_EXPORT_TYPES[query.format],
        filename=_EXPORT_NAMES[query.format],
    )


@router.get(
    "/organizations/{org_id:path}/statement",
    summary="The statement of a month",
    response_model=responses.Statement,
    responses={200: {"content": {_CSV: {}}, "headers": _POSITION}},
)
def get_statement(
    org_id: Organization, query: Annotated[StatementQuery, Query()], caller: Authenticated, handlers: CurrentHandlers
) -> Response:
    """What the use of a month lists at, costs and saves, by provider, model, key source and team; up to `position`.

    A month is told by `occurred_at`, in the time zone `tz`: its sums are those of the summary, and move when something
    becomes known late. With `since`, the position of an earlier statement, what was booked after that is told apart: of
    this month, and of those before it. For services with the scope ledger:read, and admins of the organization.
    """
    statement = handlers.statement(caller, org_id, query)
    headers = {POSITION_HEADER: str(statement["position"])}
    if query.format == "json":
        return exact_json(statement, headers)
    headers["Content-Disposition"] = f'attachment; filename="statement-{query.month}.csv"'
    lines = table_lines(CSV_COLUMNS, CSV_NUMBERS, csv_rows(statement))
    return Response(b"".join(lines), media_type=_CSV, headers=headers)


@router.get(
    "/entries/{entry_id}/receipt",
    summary="Everything that an entry follows from",
    response_model=responses.Receipt,
)
def get_receipt(entry_id: UUID, caller: Authenticated, handlers: CurrentHandlers) -> Response:
    """The entry, its revisions, and plan, keys, rate card and arithmetic as of what was known when it was booked."""
    return exact_json(handlers.receipt(caller, entry_id))


@router.post(
    "/quote",
    summary="Which key would apply, at what price, and why",
    response_model=responses.Quote,
)
def post_quote(request: QuoteRequest, caller: Authenticated, handlers: CurrentHandlers) -> Response:
    """With the very functions that price events, on what the ledger knows of the registry now."""
    return exact_json(handlers.quote(caller, request))


def exact_json(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with whole numbers of any size: sums may exceed 64 bits."""
    text = json.dumps(body, default=_as_json, ensure_ascii=False)
    return Response(text, media_type="application/json", headers=headers)


def _as_json(value: Any) -> str:
    return utc(value) if isinstance(value, datetime) else str(value)


def install_refusal_handlers(app: FastAPI) -> None:
    """Answer refusals of the handlers as problems, and an outage behind SQLAlchemy as 503."""
    answer_refusals(app, STATUS)

    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(DBAPIError)
    def _database(_request: Request, error: DBAPIError | PoolTimeoutError) -> JSONResponse:
        cause = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(cause, Exception) and not is_outage(cause):
            # No text of the error: it would hold what the caller sent.
            _log.error("a query failed", error=type(cause).__name__)
            return problem_response(Problem(500, "internal_error", "Something went wrong here; it has been logged."))
        _log.warning("database away", error=type(cause or error).__name__)
        detail = "The database is away, or took too long; try again, or ask for less at once."
        return problem_response(Problem(503, "database_unavailable", detail, headers={"Retry-After": "2"}))
