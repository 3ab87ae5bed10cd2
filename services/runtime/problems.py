"""Errors over HTTP: RFC 9457 problem details with a stable ``code``. No value a caller sent is ever echoed."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from services.runtime.logs import logger, masked

_log = logger(__name__)


class Problem(Exception):
    """A refusal that the caller is told: HTTP status, stable code, one sentence, and fields of its own."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        """``more`` are extension members of the problem document."""
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def problem_response(problem: Problem) -> JSONResponse:
    """The problem as ``application/problem+json``."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(masked(body), problem.status, headers=problem.headers, media_type="application/problem+json")


def _invalid_request(error: RequestValidationError) -> Problem:
    if any(item["type"] == "json_invalid" for item in error.errors()):
        return Problem(400, "malformed_json", "The body is not JSON.")
    # Of each error only place and message: pydantic's ``input`` and ``ctx`` may hold what the caller sent.
    errors = [
        {"field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]), "detail": item["msg"]}
        for item in error.errors()
    ]
    fields = ", ".join(sorted({item["field"] for item in errors}))
    return Problem(422, "invalid_request", f"The request is not valid: {fields}", errors=errors)


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` as a problem, an outage of the database as 503, and a bug as 500 without detail."""

    @app.exception_handler(Problem)
    def _problem(_request: Request, error: Problem) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_invalid_request(error))

    @app.exception_handler(HTTPException)
    def _http(_request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "http_error")
        phrase = HTTPStatus(error.status_code).phrase
        return problem_response(Problem(error.status_code, code, phrase, headers=error.headers))

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(psycopg.OperationalError)
    def _outage(_request: Request, error: Exception) -> JSONResponse:
        _log.warning("database away", error=type(error).__name__)
        return problem_response(
            Problem(503, "database_unavailable", "The database is away; try again.", headers={"Retry-After": "2"})
        )

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected error", path=request.url.path, exc_info=error)
        return problem_response(Problem(500, "internal_error", "Something went wrong here; it has been logged."))
