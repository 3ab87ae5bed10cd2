"""An OpenID Connect provider on this machine, over HTTP: it lets people in, and can be wrong in every way that matters.

Codes are good once, and for their client, redirect and PKCE verifier alone. Each refresh token is good once, and one
that comes again ends all that came of it, as strict providers have it.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from services.local.dev_tokens import SigningKey, create_signing_key, sign_token

CLIENT, SECRET = "console", "s3cret & more"
AUDIENCE = "byok-services"


@dataclass
class Provider:
    """What it does, which a test may change; and what it was asked."""

    url: str
    key: SigningKey
    people: dict[str, dict[str, Any]]
    asks: bool = False
    """Whether it shows a page first, as people know it."""
    refuses: str | None = None
    away: bool = False
    lifetime: int = 600
    audience: str = AUDIENCE
    id_token: dict[str, Any] = field(default_factory=dict)
    """Claims of an id token that are wrong."""
    issuer: str | None = None
    """What its discovery document says, where that is wrong."""
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    """Those that are good, and whose."""
    used: set[str] = field(default_factory=set)
    revoked: list[str] = field(default_factory=list)
    renewals: int = 0
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def expire_codes(self) -> None:
        """Codes that were handed out are good no more."""
        self._codes.clear()

    def discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer or self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "revocation_endpoint": f"{self.url}/revoke",
                "end_session_endpoint": f"{self.url}/end-session",
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    def jwks(self, _request: Request) -> Response:
        return Response(self.key.jwks_file.read_bytes(), media_type="application/json")

    def authorize(self, request: Request) -> Response:
        said = dict(request.query_params)
        wanted = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256"}
        if not wanted.items() <= said.items() or not {"state", "nonce", "code_challenge"} <= said.keys():
            return HTMLResponse("what is asked is not right", 400)
        if self.asks and "person" not in said:
            ways = {one: escape("/authorize?" + urlencode(said | {"person": one})) for one in self.people}
            links = (f'<li><a href="{way}">Continue as {escape(one)}</a>' for one, way in ways.items())
            return HTMLResponse(f"<!doctype html><title>Provider</title><h1>Who are you?</h1><ul>{''.join(links)}</ul>")
        back = {"state": said["state"], "iss": self.url}
        if self.refuses:
            return RedirectResponse(f"{said['redirect_uri']}?{urlencode(back | {'error': self.refuses})}", 302)
        code = secrets.token_urlsafe(16)
        self._codes[code] = said | {"person": said.get("person", next(iter(self.people)))}
        return RedirectResponse(f"{said['redirect_uri']}?{urlencode(back | {'code': code})}", 302)

    async def token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        if not _is_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("grant_type") == "refresh_token":
            return self._renewed(form.get("refresh_token", ""))
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri") or not _proves(form, asked):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(self._tokens(asked["person"], asked["nonce"]))

    def _renewed(self, refresh_token: str) -> Response:
        if refresh_token in self.used:
            # Somebody else may have it: nobody goes on with what came of it.
            self.refresh_tokens.clear()
        person = self.refresh_tokens.pop(refresh_token, None)
        if person is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        self.used.add(refresh_token)
        self.renewals += 1
        return JSONResponse(self._tokens(person, None))

    def _tokens(self, person: str, nonce: str | None) -> dict[str, Any]:
        now = int(time.time())
        common = {"iss": self.url, "sub": person, "iat": now, "exp": now + self.lifetime, **self.people[person]}
        access = sign_token(self.key.key_file, common | {"aud": self.audience, "jti": secrets.token_hex(8)})
        identity = common | {"aud": CLIENT} | ({"nonce": nonce} if nonce else {}) | self.id_token
        refresh = secrets.token_urlsafe(24)
        self.refresh_tokens[refresh] = person
        return {
            "access_token": access,
            "id_token": sign_token(self.key.key_file, identity),
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }

    async def revoke(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        if not _is_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        self.revoked.append(form["token"])
        self.refresh_tokens.pop(form["token"], None)
        return Response()

    def end_session(self, request: Request) -> Response:
        back = request.query_params.get("post_logout_redirect_uri", "")
        return HTMLResponse(f'<!doctype html><title>Out</title><a href="{escape(back)}">Back</a>')


def _is_client(request: Request, form: Mapping[str, str]) -> bool:
    said = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    known = request.headers.get("authorization")
    return known == f"Basic {said}" if known else form.get("client_id") == CLIENT


def _proves(form: Mapping[str, str], asked: Mapping[str, str]) -> bool:
    digest = sha256(form.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]


class _Away:
    """ASGI middleware: no answer but a broken one, while the provider is away."""

    def __init__(self, app: Any, provider: Provider) -> None:
        self._app, self._provider = app, provider

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._provider.away and scope["type"] == "http":
            await Response("down", 503)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@contextmanager
def oidc_provider(folder: Path, served: Any, people: dict[str, dict[str, Any]]) -> Iterator[Provider]:
    """It, listening for as long as the block lasts; ``served`` serves an application, and says where."""
    provider = Provider("", create_signing_key(folder), people)
    routes = [
        Route("/.well-known/openid-configuration", provider.discovery),
        Route("/jwks", provider.jwks),
        Route("/authorize", provider.authorize),
        Route("/token", provider.token, methods=["POST"]),
        Route("/revoke", provider.revoke, methods=["POST"]),
        Route("/end-session", provider.end_session),
    ]
    with served(_Away(Starlette(routes=routes), provider)) as url:
        provider.url = url
        yield provider
