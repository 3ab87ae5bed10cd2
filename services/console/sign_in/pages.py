"""Signing in and out: the page with the ways there are, and what its forms do."""

from __future__ import annotations

import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.console.forms import posted
from services.console.rendering import render
from services.console.sign_in.csrf import from_this_site
from services.console.sign_in.provider import ProviderAwayError, ProviderRefusedError
from services.console.sign_in.session import Session, SessionTooLongError, forget_session, had_session
from services.console.sign_in.way_back import HOME, way_back
from services.console.site import Site, site_of
from services.console.visit import SEE_OTHER, Visit
from services.runtime.known_tokens import Verified
from services.runtime.logs import logger
from services.runtime.tokens import TokenRefusedError

_log = logger(__name__)

PATH = "/sign-in"
_ENDED = "Your session has ended. Sign in again to go on where you were."
_SAID = {
    "signed_out": "You are signed out of this console.",
    "everywhere": "You are signed out, here at once and in every other browser within seconds.",
}
"""What was just done, by the word that the URL has for it."""


async def sign_in_page(request: Request) -> Response:
    """The ways to sign in; says so where a session has ended."""
    said = _SAID.get(request.query_params.get("said", ""))
    ended = _ENDED if had_session(request.cookies) and said is None else None
    return await sign_in_again(request, request.query_params.get("next", HOME), ended, said=said)


async def with_token(request: Request) -> Response:
    """Sign in with a bearer token that was pasted."""
    _no_other_way(request)
    form = await posted(request)
    wanted = form.get("next", HOME)
    if not from_this_site(request):
        return await sign_in_again(request, wanted, "Please sign in on this page.", 403)
    return await _signed_in_with(request, form.get("token", ""), wanted)


async def as_persona(request: Request) -> Response:
    """Sign in as somebody of those that development has."""
    _no_other_way(request)
    form = await posted(request)
    wanted = form.get("next", HOME)
    if not from_this_site(request):
        return await sign_in_again(request, wanted, "Please sign in on this page.", 403)
    persona = site_of(request).personas.named(form.get("persona", ""))
    if persona is None:
        return await sign_in_again(request, wanted, "There is nobody of that name here.", 404)
    return await _signed_in_with(request, persona.token.get_secret_value(), wanted)


async def sign_out(visit: Visit) -> Response:
    """End the session in this browser, and at the provider its refresh token."""
    return await _signed_out(visit, "signed_out")


async def sign_out_everywhere(visit: Visit) -> Response:
    """End every session of the person, in other browsers, too. Raises ApiError, and then nothing has ended."""
    await site_of(visit.request).ended.end(visit.registry, visit.caller)
    return await _signed_out(visit, "everywhere")


async def sign_in_again(
    request: Request, wanted: str, problem: str | None, status: int = 200, *, said: str | None = None
) -> Response:
    """The page, which says what went wrong before, or was done."""
    site = site_of(request)
    values = {
        "next": way_back(wanted),
        "problem": problem,
        "said": said,
        "personas": site.personas.everybody(),
        "with_provider": site.oidc is not None,
        "provider_sign_out": await _provider_sign_out(site, request) if problem or said else None,
    }
    return HTMLResponse(render("sign_in.html", None, **values), status)


async def signed_in(
    request: Request, token: str, found: Verified, wanted: str, refresh_token: str | None = None
) -> Response:
    """Keep the session of whoever has shown a token that is good, and go on."""
    site = site_of(request)
    ended = await site.ended.asked(site.registry.as_(token), found.caller)
    session = Session(token, int(time.time()), refresh_token=refresh_token, ends=found.ends, ended_before=ended)
    answer = RedirectResponse(way_back(wanted), SEE_OTHER)
    try:
        site.sessions.write(answer, session, secure=site.cookie_secure(request))
    except SessionTooLongError:
        return await sign_in_again(request, wanted, "This token is too long for a browser.", 422)
    return answer


async def _signed_in_with(request: Request, token: str, wanted: str) -> Response:
    try:
        found = await site_of(request).look(token)
    except TokenRefusedError:
        return await sign_in_again(request, wanted, "This token is not valid.", 401)
    return await signed_in(request, token, found, wanted)


async def _signed_out(visit: Visit, said: str) -> Response:
    site, session = site_of(visit.request), visit.session
    if site.oidc is not None and session.refresh_token is not None:
        try:
            await site.oidc.provider.revoke(session.refresh_token)
        except (ProviderAwayError, ProviderRefusedError) as error:
            # Nobody has it any more but the provider itself.
            _log.warning("a refresh token could not be revoked", error=type(error).__name__)
    answer = RedirectResponse(f"{PATH}?said={said}", SEE_OTHER)
    # Not what it may have been renewed to on the way here.
    visit.request.state.new_cookies = ()
    forget_session(answer, secure=site.cookie_secure(visit.request))
    return answer


async def _provider_sign_out(site: Site, request: Request) -> str | None:
    """Where one signs out of the provider itself: a link, for a form may lead to no other site (form-action)."""
    return None if site.oidc is None else await site.oidc.provider.sign_out_link(f"{site.url(request)}{PATH}")


def _no_other_way(request: Request) -> None:
    # Where there is an identity provider, nobody is let in who does not come from there.
    if site_of(request).oidc is not None:
        raise HTTPException(404)
