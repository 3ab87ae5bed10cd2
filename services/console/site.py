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
from services.console.sign_in.personas import Personas
from services.console.sign_in.session import Session, SessionKeys, SignedOutError
from services.console.visit import Visit
from services.domain.permissions import Caller
from services.runtime.problems import Problem
from services.runtime.tokens import TokenVerifier

Page = Callable[[Visit], Awaitable[Response]]


class Site(NamedTuple):
    """What all pages share; in ``app.state.site``."""

    registry: Service
    ledger: Service
    tokens: TokenVerifier
    sessions: SessionKeys
    personas: Personas
    cookie_always_secure: bool

    def cookie_secure(self, request: Request) -> bool:
        """Whether the browser may send cookies over TLS alone."""
        # The scheme is the proxy's word where a trusted one took the request (services/runtime/web.py).
        return self.cookie_always_secure or request.url.scheme == "https"

    async def caller_of(self, token: str) -> Caller | None:
        """Whose token it is; None where it is not good. Raises 503 where no keys can be had."""
        try:
            return await run_in_threadpool(self.tokens.verify, token)
        except Problem as problem:
            if problem.status == 401:
                return None
            raise

    async def visit(self, request: Request) -> Visit:
        """The visit of whoever is signed in. Raises SignedOutError."""
        session = self.sessions.read(request.cookies, time.time())
        caller = None if session is None else await self.caller_of(session.token)
        if session is None or caller is None:
            raise SignedOutError
        return self._visit(request, session, caller)

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


def form(path: str, carry_out: Page) -> Route:
    """What a form is sent to: it has the session's ``csrf`` field, and comes from a page of ours.

    Raises 403 ``foreign_form`` where it does not, and nothing is done.
    """

    async def endpoint(request: Request) -> Response:
        visit = await site_of(request).visit(request)
        fields = await posted(request)
        if not (csrf.from_this_site(request) and csrf.belongs_to(fields, visit.session)):
            raise Problem(403, "foreign_form", "Nothing was changed.")
        visit = replace(visit, form=fields)
        request.state.visit = visit
        return await carry_out(visit)

    return Route(path, endpoint, methods=["POST"], name=carry_out.__name__)
