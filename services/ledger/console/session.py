"""Who is signed in: the bearer token in a cookie that no script can read and no other site can send."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import Response

from services.domain.masking import mask_text
from services.domain.permissions import Caller
from services.ledger.console.savings import FORM_FIELDS
from services.runtime.problems import Problem
from services.runtime.tokens import TokenVerifier

COOKIE = "byok_console"
# Browsers keep no longer cookies than this, name included.
TOKEN_BYTES_MAX = 4_000
HOME = "/console/"
_PATH = "/console"
_PAGE = re.compile(r"/console/(?:dead-letters|receipts/[0-9a-f-]{36})?")
_FIELDS_MAX = 20


def signed_in(request: Request, tokens: TokenVerifier) -> Caller | None:
    """Whose token is in the cookie; None without one that is good now."""
    return check_token(request.cookies.get(COOKIE, ""), tokens)


def check_token(token: str, tokens: TokenVerifier) -> Caller | None:
    """Whose token it is; None where it is not good. Raises 503 when no keys can be had."""
    if not token:
        return None
    try:
        return tokens.verify(token)
    except Problem as problem:
        if problem.status == 401:
            return None
        raise


class SignInForm(NamedTuple):
    """What was sent to sign in."""

    token: str
    next: str
    """The page of ours to go on with."""


async def posted(request: Request) -> SignInForm:
    """The form that was sent; an empty token where there is none."""
    form = _fields((await request.body()).decode("ascii", "replace"))
    path, _, query = form.get("next", [""])[0].partition("?")
    return SignInForm(form.get("token", [""])[0].strip(), way_back(path, query))


def way_back(path: str, query: str) -> str:
    """The page of ours at ``path`` with the filters in ``query``, and nothing else of it; else the first page.

    So nobody is led out of the console, and no key that was put into a URL by mistake is repeated.
    """
    if _PAGE.fullmatch(path) is None:
        return HOME
    given = _fields(query)
    kept = {
        name: given[name][0] for name in FORM_FIELDS if name in given and mask_text(given[name][0]) == given[name][0]
    }
    return f"{path}?{urlencode(kept)}" if kept else path


def _fields(encoded: str) -> dict[str, list[str]]:
    return parse_qs(encoded) if encoded.count("&") < _FIELDS_MAX else {}


def from_this_site(request: Request) -> bool:
    """Whether our own page sent the form: browsers say where a form comes from, and no page can lie about it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def sign_in(response: Response, token: str, *, secure: bool) -> None:
    """Keep the token until the browser is closed or the token ends; ``secure``: to be sent over TLS alone."""
    response.set_cookie(COOKIE, token, path=_PATH, httponly=True, samesite="strict", secure=secure)


def sign_out(response: Response, *, secure: bool) -> None:
    """Forget the token."""
    response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict", secure=secure)
