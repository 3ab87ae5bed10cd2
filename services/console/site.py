"""Who may see a page: every request is somebody's visit, with a session that is good, or leads to signing in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console.apis import Service
from services.console.forms import posted
from services.console.preferences import read_preferences
from services.console.sign_in import csrf
from services.console.sign_in.attempts import Attempts
from services.console.sign_in.everywhere import EndedSessions
from services.console.sign_in.personas import Personas
from services.console.sign_in.provider import Provider, ProviderAwayError
from services.console.sign_in.renewal import Renewals
from services.console.sign_in.session import Session, SessionKeys, SessionTooLongError, SignedOutError
from services.console.visit import Visit
from services.domain.permissions import Caller
from services.runtime.known_tokens import Verified
from services.runtime.logs import logger
from services.runtime.problems import Problem
from services.runtime.tokens import TokenRefusedError, TokenVerifier

_log = logger(__name__)

Page = Callable[[Visit], Awaitable[Response]]


class Oidc(NamedTuple):
    """Signing in at an identity provider."""

    provider: Provider
    attempts: Attempts
    renewals: Renewals


class Site(NamedTuple):
    """What all pages share; in ``app.state.site``."""

    registry: Service
    ledger: Service
    tokens: TokenVerifier
    sessions: SessionKeys
    ended: EndedSessions
    personas: Personas
    oidc: Oidc | None
    """None: people sign in with a token, or as somebody of development."""
    cookie_always_secure: bool
    public_url: str | None

    def cookie_secure(self, request: Request) -> bool:
        """Whether the browser may send cookies over TLS alone."""
        # The scheme is the proxy's word where a trusted one took the request (services/runtime/web.py).
        return self.cookie_always_secure or request.url.scheme == "https"

    def url(self, request: Request) -> str:
        """Where people find the console, without a slash at its end."""
        return self.public_url or str(request.base_url).rstrip("/")

    async def look(self, token: str) -> Verified:
        """Whose token it is, and until when. Raises TokenRefusedError; 503 where no keys can be had."""
        return await run_in_threadpool(self.tokens.look, token)

    async def visit(self, request: Request, *, sure: bool = False) -> Visit:
        """The visit of whoever is signed in. Raises SignedOutError.

        ``sure`` is for what changes something: raises 503 ``sessions_unknown`` where nobody can say whether the person
        has signed out everywhere.
        """
        session = self.sessions.read(request.cookies, time.time())
        if session is None:
            raise SignedOutError
        session, caller = await self._renewed(request, session, await self._caller_of(session))
        visit = self._visit(request, session, caller)
        ended = await self.ended.known(visit.registry, caller, sure=sure)
        if ended is None and sure:
            raise Problem(503, "sessions_unknown", "Nothing was changed.")
        if ended is not None and session.is_over(ended):
            request.state.visit = None
            raise SignedOutError
        return visit

    async def _caller_of(self, session: Session) -> Caller | None:
        try:
            return (await self.look(session.token)).caller
        except TokenRefusedError:
            return None

    async def _renewed(self, request: Request, session: Session, caller: Caller | None) -> tuple[Session, Caller]:
        """The session with a new token where it is time for one. The one of before counts until its token's end."""
        if self.oidc is not None and session.is_due(time.time()):
            try:
                renewed = await self.oidc.renewals.renewed(session, caller)
            except ProviderAwayError:
                if caller is None:
                    raise Problem(503, "provider_away", "Your session cannot be renewed at present.") from None
                renewed = None
            if renewed is not None:
                self._hand_out(request, renewed)
                session, caller = renewed, await self._caller_of(renewed)
        if caller is None:
            raise SignedOutError
        return session, caller

    def _hand_out(self, request: Request, session: Session) -> None:
        """Have whatever is answered bring the session along (``main._Headers``)."""
        carrier = Response()
        try:
            self.sessions.write(carrier, session, secure=self.cookie_secure(request))
        except SessionTooLongError:
            _log.warning("a renewed session is too long for a browser")
        else:
            request.state.new_cookies = [header for header in carrier.raw_headers if header[0] == b"set-cookie"]

    def _visit(self, request: Request, session: Session, caller: Caller) -> Visit:
        registry, ledger = self.registry.as_(session.token), self.ledger.as_(session.token)
        visit = Visit(request, caller, session, registry, ledger, read_preferences(request))
        # Also for the page of what goes wrong from here on.
        request.state.visit = visit
        return visit


def site_of(request: Request) -> Site:
    """What all pages share."""
    site: Site = request.app.state.site
    return site


def page(path: str, show: Page, *, about_organization: bool = True) -> Route:
    """A page that somebody who is signed in may ask for. Operators of all organizations are led to choose one first,
    unless it is about none."""

    async def endpoint(request: Request) -> Response:
        visit = await site_of(request).visit(request)
        if about_organization and not visit.org_id:
            return visit.go_to("/organizations", next=visit.request.url.path)
        return await show(visit)

    return Route(path, endpoint, methods=["GET"], name=show.__name__)


def form(path: str, carry_out: Page, *, sure: bool = True) -> Route:
    """What a form is sent to: it has the session's ``csrf`` field, and comes from a page of ours.

    Raises 403 ``foreign_form`` where it does not, and nothing is done. ``sure`` is as of ``Site.visit``; what changes
    nothing but this browser need not be.
    """

    async def endpoint(request: Request) -> Response:
        visit = await site_of(request).visit(request, sure=sure)
        fields = await posted(request)
        if not (csrf.from_this_site(request) and csrf.belongs_to(fields, visit.session)):
            raise Problem(403, "foreign_form", "Nothing was changed.")
        visit = replace(visit, form=fields)
        request.state.visit = visit
        return await carry_out(visit)

    return Route(path, endpoint, methods=["POST"], name=carry_out.__name__)
