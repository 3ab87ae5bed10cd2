"""Errors over HTTP: RFC 9457 problem details with a stable ``code``. No value or name a caller sent is echoed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from services.runtime.logs import logger, masked
from services.runtime.refusals import Refusal
from services.runtime.trace_context import TRACEPARENT, current_trace

_log = logger(__name__)


class ProblemDocument(BaseModel):
    """A problem (RFC 9457) with a stable code."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, str | int]] | None = Field(
        None,
        description="What of the request is not valid: `field` and `detail`; of usage events also `index` and `code`. "
        "At most the first hundred.",
    )
    trace_id: str | None = Field(
        None, description="Of a 5xx: the trace of the request, as in `traceparent`; our logs of it are found by it."
    )


PROBLEM_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
    }
    for status, text in (("4XX", "Refused; nothing was changed."), ("5XX", "Not possible at present."))
}
"""Problems as the description of an API tells them."""


class Problem(Exception):
    """What HTTP answers in place of what was asked: status, stable code, one sentence, and fields of its own."""

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
    headers, trace = problem.headers, current_trace.get()
    if trace is not None:
        # The answer to a bug is made around all that else would add the header.
        headers = {**headers, TRACEPARENT: str(trace)}
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # Not where the caller is at fault: what is hidden and what is not there are answered in the same bytes.
            body["trace_id"] = trace.trace_id
    return JSONResponse(masked(body), problem.status, headers=headers, media_type="application/problem+json")


def problem_of(refusal: Refusal, statuses: Mapping[StrEnum, int]) -> Problem:
    """The refusal as HTTP tells it; ``statuses`` has every code that a use case refuses with."""
    detail, more = refusal.detail, {"errors": refusal.errors} if refusal.errors else {}
    if refusal.code == _INVALID_REQUEST and refusal.field is not None:
        detail = _invalid(refusal.field)
    retry = {} if refusal.retry_seconds is None else {"Retry-After": str(refusal.retry_seconds)}
    return Problem(statuses[refusal.code], refusal.code.value, detail, headers=retry, **more)


_INVALID_REQUEST = "invalid_request"


def _invalid(fields: str) -> str:
    return f"The request is not valid: {fields}"


def _invalid_request(request: Request, error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return _malformed_json()
    # A body that does not say it is JSON is not read as such, and so as a whole it is not what was asked for.
    if any(item["loc"] == ("body",) and item["type"] != "missing" for item in found) and not says_json(request):
        return Problem(415, "unsupported_media_type", "Content-Type must be application/json.")
    # Of each error only place and message: pydantic's ``input`` and ``ctx`` may hold what the caller sent.
    errors = [_field_error(item["type"], item["loc"], item["msg"]) for item in found]
    fields = ", ".join(sorted({item["field"] for item in errors}))
    return Problem(422, _INVALID_REQUEST, _invalid(fields), errors=errors)


def _field_error(kind: str, place: Sequence[int | str], message: str) -> dict[str, str]:
    if kind == "extra_forbidden":
        # Its name is the caller's own, and may be a key that was pasted in the wrong place.
        place, message = place[:-1], _UNKNOWN_FIELD
    return {
        "field": ".".join(str(part) for part in place[1:]) or str(place[0]),
        "detail": message.removeprefix("Value error, "),
    }


_UNKNOWN_FIELD = "holds an unknown field, whose name is not repeated; /openapi.json names those that are known"


def _malformed_json() -> Problem:
    return Problem(400, "malformed_json", "The body is not JSON.")


def says_json(request: Request) -> bool:
    """Whether the body of a request is JSON, as its Content-Type has it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _allowed_methods(request: Request) -> str:
    """All that the path takes; the framework names only those of the first of its routes."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return ", ".join(method for method in _METHODS if takes(method))


_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}


def answer_refusals(app: FastAPI, statuses: Mapping[StrEnum, int]) -> None:
    """Answer what use cases refuse as problems, by the status of each code."""

    @app.exception_handler(Refusal)
    def _refusal(_request: Request, refusal: Refusal) -> JSONResponse:
        return problem_response(problem_of(refusal, statuses))


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` as a problem, an outage of the database as 503, and a bug as 500 without detail."""

    @app.exception_handler(Problem)
    def _problem(_request: Request, error: Problem) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_invalid_request(request, error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # What the framework says of a body that breaks its reader: no UTF-8, nested too deeply, endless digits.
            return problem_response(_malformed_json())
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed_methods(request)
        code = _CODES.get(error.status_code, "http_error")
        phrase = HTTPStatus(error.status_code).phrase
        return problem_response(Problem(error.status_code, code, phrase, headers=headers))

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
