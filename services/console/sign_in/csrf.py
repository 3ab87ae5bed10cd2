"""That a form was sent by a page of ours, in the session that it belongs to: nobody else can send one for a reader."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from starlette.requests import Request

from services.console.sign_in.session import Session

FIELD = "csrf"


def from_this_site(request: Request) -> bool:
    """Whether our own page sent the form: browsers say where a form comes from, and no page can lie about it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def belongs_to(form: Mapping[str, str], session: Session) -> bool:
    """Whether the form has the session's own word, which no other site can read."""
    return hmac.compare_digest(form.get(FIELD, "").encode(), session.csrf.encode())
