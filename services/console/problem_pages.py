"""What is shown where a page cannot be: what happened, and what to do; never a traceback, nor what was sent."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.console.apis import ApiError
from services.console.filters import UnusableFormError
from services.console.rendering import render
from services.console.sign_in.session import SignedOutError
from services.console.sign_in.way_back import way_back_of
from services.console.visit import SEE_OTHER, Visit
from services.console.words import trouble
from services.runtime.logs import logger
from services.runtime.problems import Problem

_log = logger(__name__)


class _Told(NamedTuple):
    status: int
    code: str
    detail: str
    service: str | None = None


def problem_page(request: Request, error: Exception) -> Response:
    """The page for an error; whoever has no session is led to signing in, and then back."""
    if isinstance(error, SignedOutError) or (isinstance(error, ApiError) and error.status == 401):
        return RedirectResponse(f"/sign-in?{urlencode({'next': way_back_of(request)})}", SEE_OTHER)
    told = _told(error)
    visit: Visit | None = getattr(request.state, "visit", None)
    says = trouble(told.status, told.code, told.service)
    page = HTMLResponse(render("problem.html", visit, says=says, told=told), told.status)
    if isinstance(error, ApiError) and error.retry_seconds is not None:
        page.headers["Retry-After"] = str(error.retry_seconds)
    return page


def _told(error: Exception) -> _Told:
    match error:
        case ApiError():
            return _Told(error.status, error.code, error.detail, error.service)
        case Problem():
            return _Told(error.status, error.code, error.detail)
        case UnusableFormError():
            return _Told(422, "unusable_form", f"The form cannot be used: {error}.")
        case HTTPException():
            return _Told(error.status_code, "http_error", "")
        case _:
            _log.error("unexpected error in the console", exc_info=error)
            return _Told(500, "internal_error", "")
