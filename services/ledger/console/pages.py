"""The console's pages and their safety: no script, no inline style, every value escaped, no token in any URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from services.domain.credits import format_credits, format_credits_roughly
from services.domain.permissions import Caller
from services.ledger.api import STATUS
from services.ledger.console import session
from services.ledger.console.dead_letters import dead_letters_of, refused_of
from services.ledger.console.savings import UnusableFormError, read_form, savings_of
from services.ledger.explanation import utc
from services.ledger.handlers import Handlers
from services.runtime.logs import logger
from services.runtime.problems import Problem, problem_of
from services.runtime.refusals import Refusal
from services.runtime.tokens import TokenVerifier

_log = logger(__name__)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_KEPT_A_DAY = {"Cache-Control": "max-age=86400"}
_SEE_OTHER = 303
_ENDED = "Your session has ended, for its token has. Sign in again to go on where you were."

_STATIC = Path(__file__).parent / "static"

_templates = Environment(
    loader=PackageLoader("services.ledger.console"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(credits=format_credits, glance=format_credits_roughly, utc=utc)


def _page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(values), status, headers=_HEADERS)


class _Console:
    def __init__(self, handlers: Handlers, tokens: TokenVerifier, *, cookie_always_secure: bool) -> None:
        self._handlers = handlers
        self._tokens = tokens
        self._cookie_always_secure = cookie_always_secure

    async def home(self, request: Request) -> Response:
        return await run_in_threadpool(self._home, request)

    async def dead_letters(self, request: Request) -> Response:
        return await run_in_threadpool(self._dead_letters, request)

    async def receipt(self, request: Request) -> Response:
        return await run_in_threadpool(self._receipt, request)

    async def sign_in(self, request: Request) -> Response:
        form = await session.posted(request)
        return await run_in_threadpool(self._sign_in, request, form)

    async def sign_out(self, request: Request) -> Response:
        response = RedirectResponse(session.HOME, _SEE_OTHER, headers=_HEADERS)
        if session.from_this_site(request):
            session.sign_out(response, secure=self._cookie_secure(request))
        return response

    def _home(self, request: Request) -> Response:
        caller = session.signed_in(request, self._tokens)
        if caller is None:
            return _signed_out(request)
        asked = read_form(request.query_params, caller, datetime.now(UTC).date())
        shown = savings_of(self._handlers, caller, asked) if asked.org_id else None
        refused = refused_of(self._handlers, caller, asked) if asked.org_id else None
        choose = _may_choose(caller)
        return _page("savings.html", caller=caller, asked=asked, shown=shown, refused=refused, choose=choose)

    def _dead_letters(self, request: Request) -> Response:
        caller = session.signed_in(request, self._tokens)
        if caller is None:
            return _signed_out(request)
        asked = read_form(request.query_params, caller, datetime.now(UTC).date())
        if not asked.org_id:
            return RedirectResponse(session.HOME, _SEE_OTHER, headers=_HEADERS)
        shown = dead_letters_of(self._handlers, caller, asked, request.query_params.get("reason", ""))
        return _page("dead_letters.html", caller=caller, asked=asked, shown=shown)

    def _receipt(self, request: Request) -> Response:
        caller = session.signed_in(request, self._tokens)
        if caller is None:
            return _signed_out(request)
        entry_id: UUID = request.path_params["entry_id"]
        return _page("receipt.html", caller=caller, receipt=self._handlers.receipt(caller, entry_id))

    def _sign_in(self, request: Request, form: session.SignInForm) -> Response:
        if not session.from_this_site(request):
            return _sign_in_page(form.next, "Please sign in on this page.", 403)
        if len(form.token) > session.TOKEN_BYTES_MAX:
            return _sign_in_page(form.next, "This token is too long for a browser.", 422)
        if session.check_token(form.token, self._tokens) is None:
            return _sign_in_page(form.next, "This token is not valid.", 401)
        response = RedirectResponse(form.next, _SEE_OTHER, headers=_HEADERS)
        session.sign_in(response, form.token, secure=self._cookie_secure(request))
        return response

    def _cookie_secure(self, request: Request) -> bool:
        # The scheme is the proxy's word where a trusted one took the request (services/runtime/web.py).
        return self._cookie_always_secure or request.url.scheme == "https"


def _signed_out(request: Request) -> Response:
    """The page to sign in on, which leads back to where one was. Says so where a session has ended."""
    ended = session.COOKIE in request.cookies
    return _sign_in_page(session.way_back(request.url.path, request.url.query), _ENDED if ended else None)


def _sign_in_page(way_back: str, problem: str | None, status: int = 200) -> Response:
    return _page("sign_in.html", status=status, caller=None, problem=problem, next=way_back)


def _may_choose(caller: Caller) -> bool:
    return caller.is_everywhere


def _problem_page(_request: Request, error: Exception) -> Response:
    status, detail = _problem_of(error)
    return _page("problem.html", status=status, caller=None, detail=detail)


def _problem_of(error: Exception) -> tuple[int, str]:
    if isinstance(error, Refusal):
        error = problem_of(error, STATUS)
    if isinstance(error, Problem):
        return error.status, error.detail
    if isinstance(error, UnusableFormError):
        return 422, f"The form cannot be used: {error}."
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, SQLAlchemyError):
        _log.warning("database away", error=type(error).__name__)
        return 503, "The database is away, or took too long. Try again, or ask for less at once."
    _log.error("unexpected error in the console", exc_info=error)
    return 500, "Something went wrong here; it has been logged."


class _Files(StaticFiles):
    """Files that say what they are and nothing else."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def console(handlers: Handlers, tokens: TokenVerifier, *, cookie_always_secure: bool) -> Starlette:
    """The console, to be mounted at /console. Its cookie is Secure where a request came over TLS, or always."""
    pages = _Console(handlers, tokens, cookie_always_secure=cookie_always_secure)
    static = _Files(directory=_STATIC)
    errors: dict[Any, Callable[[Request, Exception], Response | Awaitable[Response]]] = dict.fromkeys(
        (Refusal, Problem, UnusableFormError, HTTPException, SQLAlchemyError, Exception), _problem_page
    )
    application = Starlette(
        routes=[
            Route("/", pages.home),
            Route("/dead-letters", pages.dead_letters),
            Route("/receipts/{entry_id:uuid}", pages.receipt),
            Route("/sign-in", pages.sign_in, methods=["POST"]),
            Route("/sign-out", pages.sign_out, methods=["POST"]),
            Mount("/static", static),
        ],
        exception_handlers=errors,
    )
    # As in create_app: a redirect would repeat the URL.
    application.router.redirect_slashes = False
    return application


def icon() -> Response:
    """The console's icon, which browsers ask the root for on whatever page of ours they show."""
    return FileResponse(_STATIC / "icon.svg", media_type="image/svg+xml", headers=_HEADERS | _KEPT_A_DAY)


def to_console() -> Response:
    """To the console's first page, for whoever leaves out the slash."""
    return RedirectResponse(session.HOME, _SEE_OTHER, headers=_HEADERS)
