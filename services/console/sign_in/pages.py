"""Signing in and out: the page with the ways there are, and what its forms do."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.console.forms import posted
from services.console.rendering import render
from services.console.sign_in.csrf import from_this_site
from services.console.sign_in.session import Session, SessionTooLongError, forget_session, had_session
from services.console.sign_in.way_back import HOME, way_back
from services.console.site import site_of
from services.console.visit import SEE_OTHER, Visit

PATH = "/sign-in"
_ENDED = "Your session has ended. Sign in again to go on where you were."


async def sign_in_page(request: Request) -> Response:
    """The ways to sign in; says so where a session has ended."""
    ended = had_session(request.cookies)
    return _page(request, way_back(request.query_params.get("next", HOME)), _ENDED if ended else None)


async def with_token(request: Request) -> Response:
    """Sign in with a bearer token that was pasted."""
    form = await posted(request)
    wanted = way_back(form.get("next", HOME))
    if not from_this_site(request):
        return _page(request, wanted, "Please sign in on this page.", 403)
    return await _signed_in(request, form.get("token", ""), wanted)


async def as_persona(request: Request) -> Response:
    """Sign in as somebody of those that development has."""
    form = await posted(request)
    wanted = way_back(form.get("next", HOME))
    if not from_this_site(request):
        return _page(request, wanted, "Please sign in on this page.", 403)
    persona = site_of(request).personas.named(form.get("persona", ""))
    if persona is None:
        return _page(request, wanted, "There is nobody of that name here.", 404)
    return await _signed_in(request, persona.token.get_secret_value(), wanted)


async def sign_out(visit: Visit) -> Response:
    """End the session in this browser."""
    answer = RedirectResponse(PATH, SEE_OTHER)
    forget_session(answer, secure=site_of(visit.request).cookie_secure(visit.request))
    return answer


async def _signed_in(request: Request, token: str, wanted: str) -> Response:
    site = site_of(request)
    caller = await site.caller_of(token) if token else None
    if caller is None:
        return _page(request, wanted, "This token is not valid.", 401)
    answer = RedirectResponse(wanted, SEE_OTHER)
    try:
        site.sessions.write(answer, Session(token, int(time.time())), secure=site.cookie_secure(request))
    except SessionTooLongError:
        return _page(request, wanted, "This token is too long for a browser.", 422)
    return answer


def _page(request: Request, wanted: str, problem: str | None, status: int = 200) -> Response:
    personas = site_of(request).personas.everybody()
    return HTMLResponse(render("sign_in.html", None, next=wanted, problem=problem, personas=personas), status)
