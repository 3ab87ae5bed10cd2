"""Who is signed in: the bearer token in a cookie that no script can read and no other site can send."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from services.ledger.access import Viewer
from services.ledger.api import viewer_of
from services.runtime.problems import Problem
from services.runtime.tokens import TokenVerifier

COOKIE = "byok_console"
# Browsers keep no longer cookies than this, name included.
TOKEN_BYTES_MAX = 4_000
_PATH = "/console"


def signed_in(request: Request, tokens: TokenVerifier) -> Viewer | None:
    """The viewer whose token is in the cookie; None without one that is good now."""
    return check_token(request.cookies.get(COOKIE, ""), tokens)


def check_token(token: str, tokens: TokenVerifier) -> Viewer | None:
    """The viewer that a token stands for; None where it is not good. Raises 503 when no keys can be had."""
    if not token:
        return None
    try:
        return viewer_of(tokens.verify(token))
    except Problem as problem:
        if problem.status == 401:
            return None
        raise


async def posted_token(request: Request) -> str:
    """The token in the form that was sent; empty where there is none."""
    form = parse_qs((await request.body()).decode("ascii", "replace"), max_num_fields=10)
    return form.get("token", [""])[0].strip()


def from_this_site(request: Request) -> bool:
    """Whether our own page sent the form: browsers say where a form comes from, and no page can lie about it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def sign_in(response: Response, request: Request, token: str) -> None:
    """Keep the token until the browser is closed or the token ends."""
    response.set_cookie(
        COOKIE, token, path=_PATH, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def sign_out(response: Response) -> None:
    """Forget the token."""
    response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict")
