"""What the registry's API answers when it refuses or cannot, and how its description says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import psycopg
import sqlalchemy.exc
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.key_registry.rules.clock import ClockBehindLogError
from services.key_registry.rules.completeness import LogBehindError, LogUnconfirmedError
from services.key_registry.rules.refusals import Code
from services.runtime.database import cannot_write
from services.runtime.logs import logger
from services.runtime.problems import PROBLEM_ANSWERS, Problem, answer_refusals, problem_response

_log = logger(__name__)
_RETRY_SECONDS_MAX = 60

_STATUS: Mapping[StrEnum, int] = {
    Code.NOT_FOUND: 404,
    Code.FORBIDDEN: 403,
    Code.INSUFFICIENT_SCOPE: 403,
    Code.ORGANIZATION_FORBIDDEN: 403,
    Code.INVALID_REQUEST: 422,
    Code.PROVIDER_NOT_SUPPORTED: 422,
    Code.PLAN_NOT_ENTITLED: 403,
    Code.CREDENTIAL_EXISTS: 409,
    Code.CREDENTIAL_OVERLAP: 409,
    Code.ORGANIZATION_KEY_ENFORCED: 409,
    Code.HISTORY_TOO_LONG: 409,
    Code.CREDENTIAL_UNUSABLE: 503,
    Code.CREDENTIAL_LOST: 503,
    Code.CREDENTIAL_DELETED: 409,
    Code.PRECONDITION_FAILED: 412,
    Code.KEY_INVALID: 422,
    Code.KEY_UNCHANGED: 409,
    Code.NOTHING_TO_UNDO: 409,
    Code.AHEAD_OF_LOG: 409,
    Code.ALIAS_EXISTS: 409,
    Code.UNKNOWN_MODEL: 422,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
}


def answers(status: int, *codes: Code, tagged: bool = True) -> dict[int | str, dict[str, Any]]:
    """What an operation answers besides its document: its entity tag, if it has one, and the codes that are its own."""
    tag = {"ETag": {"description": "For If-Match.", "schema": {"type": "string"}}}
    own = f"Refused; nothing was changed. Codes of this operation: {', '.join(codes)}."
    has_tag = tagged and status != HTTPStatus.NO_CONTENT
    done: dict[int | str, dict[str, Any]] = {status: {"headers": tag}} if has_tag else {}
    return done | {"4XX": {**PROBLEM_ANSWERS["4XX"], "description": own}}


CHANGED = (Code.NOT_FOUND, Code.FORBIDDEN, Code.PRECONDITION_FAILED)
ADDED = (Code.CREDENTIAL_EXISTS, Code.ORGANIZATION_KEY_ENFORCED, Code.PLAN_NOT_ENTITLED, Code.PROVIDER_NOT_SUPPORTED)


def install_refusals(app: FastAPI) -> None:
    """Answer refusals with their code; an outage of the database, a clock that was set back and a log that is not known
    to be whole as 503."""
    answer_refusals(app, _STATUS)
    for outage in (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError):
        app.add_exception_handler(outage, _database_away)
    app.add_exception_handler(psycopg.InterfaceError, _database_away)
    app.add_exception_handler(sqlalchemy.exc.InternalError, _read_only)
    app.add_exception_handler(ClockBehindLogError, _clock_behind)
    app.add_exception_handler(LogBehindError, _log_behind)
    app.add_exception_handler(LogUnconfirmedError, _log_unconfirmed)


def _read_only(request: Request, error: Exception) -> JSONResponse:
    # To a database that is read-only for a time a write is an error of the transaction, not of the connection.
    if isinstance(error, sqlalchemy.exc.DBAPIError) and cannot_write(error.orig):
        return _database_away(request, error)
    raise error


def _database_away(_request: Request, error: Exception) -> JSONResponse:
    _log.warning("database away", error=type(error).__name__)
    return problem_response(
        Problem(503, "database_unavailable", "The database is away; try again.", headers={"Retry-After": "2"})
    )


def _clock_behind(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ClockBehindLogError):
        raise error
    seconds = math.ceil(error.by.total_seconds())
    _log.error("clock behind log", log_ahead_seconds=error.by.total_seconds())
    detail = (
        f"The registry's log is {seconds} s ahead of its database's clock, so no key is changed or leased:"
        " what was leased now would not be what is charged. Try again then; an operator sets the clock right."
    )
    # A clock that is set right may be right much earlier.
    retry = {"Retry-After": str(min(seconds, _RETRY_SECONDS_MAX))}
    return problem_response(Problem(503, "clock_behind_log", detail, headers=retry))


def _log_behind(_request: Request, error: Exception) -> JSONResponse:
    _log.error("log behind", detail=str(error))
    detail = (
        "The registry's database lacks changes that were made before, as after a restore from a backup. No key is"
        " changed or leased until an operator has brought them back."
    )
    return problem_response(Problem(503, "registry_behind", detail))


def _log_unconfirmed(_request: Request, _error: Exception) -> JSONResponse:
    detail = (
        "The registry cannot find out yet whether its database holds every change, for the broker does not answer."
        " Nothing is changed meanwhile; try again."
    )
    return problem_response(Problem(503, "registry_unconfirmed", detail, headers={"Retry-After": "2"}))
