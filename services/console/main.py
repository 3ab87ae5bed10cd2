"""The console: what it consists of, and how it is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.console.apis import ApiError, Service
from services.console.filters import UnusableFormError
from services.console.forms import FORM_BYTES_MAX
from services.console.problem_pages import problem_page
from services.console.routes import ROUTES
from services.console.settings import ConsoleSettings
from services.console.sign_in.attempts import Attempts
from services.console.sign_in.everywhere import EndedSessions
from services.console.sign_in.personas import Personas
from services.console.sign_in.provider import Provider
from services.console.sign_in.renewal import Renewals
from services.console.sign_in.sealing import Seals
from services.console.sign_in.session import SessionKeys, SignedOutError
from services.console.site import Oidc, Site
from services.runtime.http_client import http_client
from services.runtime.logs import configure_logs, log_crashes
from services.runtime.metrics import process_registry
from services.runtime.problems import Problem
from services.runtime.request_bodies import BodyBounds
from services.runtime.spans import configure_spans
from services.runtime.tokens import TokenVerifier
from services.runtime.web import ReadinessCheck, create_app, serve

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NOT_KEPT = "no-store"
_KEPT_A_DAY = "max-age=86400"
_LOOK_SECONDS = 2

_DESCRIPTION = "Pages for people: credentials, savings, usage. It has no API of its own beyond the operators' below."


def build_app(settings: ConsoleSettings) -> FastAPI:
    """The application. Raises SettingsError for a setting that is missing or cannot be used."""
    registry = Service("key registry", settings.registry_url)
    ledger = Service("ledger", settings.ledger_url)
    site = _site(settings, registry, ledger)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with registry, ledger:
            yield

    app = create_app(
        title="BYOK console",
        description=_DESCRIPTION,
        metrics=process_registry(),
        checks={},
        # The pages that need neither are shown nevertheless, and the others say what is away.
        impaired={"registry": _answers(settings.registry_url), "ledger": _answers(settings.ledger_url)},
        bodies=BodyBounds.of(settings, FORM_BYTES_MAX),
        lifespan=lifespan,
    )
    app.mount("", _pages(site))
    return app


def _site(settings: ConsoleSettings, registry: Service, ledger: Service) -> Site:
    seals, tokens = Seals(settings.console_session_key_file), TokenVerifier(settings)
    site = Site(
        registry=registry,
        ledger=ledger,
        tokens=tokens,
        sessions=SessionKeys(seals, settings.console_session_hours * 3600),
        ended=EndedSessions(settings.console_session_check_seconds),
        personas=Personas(settings),
        oidc=None,
        cookie_always_secure=settings.console_cookie_secure,
        public_url=settings.console_public_url,
    )
    if settings.console_oidc_issuer is None:
        return site
    provider = Provider(settings)
    return site._replace(oidc=Oidc(provider, Attempts(seals), Renewals(provider, site.look)))


def _pages(site: Site) -> Starlette:
    errors: dict[Any, Callable[[Request, Exception], Response | Awaitable[Response]]] = dict.fromkeys(
        (SignedOutError, ApiError, Problem, UnusableFormError, HTTPException, Exception), problem_page
    )
    files = [Mount("/static", StaticFiles(directory=_STATIC)), Route("/favicon.ico", _icon)]
    pages = Starlette(routes=[*ROUTES, *files], exception_handlers=errors, middleware=[Middleware(_Headers)])
    pages.state.site = site
    # As in create_app: a redirect would repeat the URL.
    pages.router.redirect_slashes = False
    return pages


async def _icon(_request: Request) -> Response:
    return FileResponse(_STATIC / "icon.svg", media_type="image/svg+xml", headers={"Cache-Control": _KEPT_A_DAY})


class _Headers:
    """ASGI middleware: what every answer tells the browser, whatever it is: no script, no other site, keep nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *scope["state"].get("new_cookies", ())]
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", _NOT_KEPT)
            await send(message)

        await self._app(scope, receive, telling)


def _answers(url: str) -> ReadinessCheck:
    def check() -> str | None:
        try:
            with http_client(url, seconds=_LOOK_SECONDS, proxied=False) as client:
                client.get(f"{url.rstrip('/')}/healthz").raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"it does not answer ({type(error).__name__})"
        return None

    return check


def run(settings: ConsoleSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError before anything starts."""
    configure_logs(settings.log_level, "console")
    log_crashes()
    configure_spans(settings, "console")
    serve(build_app(settings), settings, settings.console_port)
