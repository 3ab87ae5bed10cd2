"""Where somebody goes on after signing in: the page of ours where they were, and nowhere else."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request

from services.domain.masking import mask_text

HOME = "/"
_BYTES_MAX = 2_000
_FIELDS_MAX = 30
# No second slash at the beginning, which would be another site, nor a backslash, which browsers take for a slash.
_PATH = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")
_NO_PAGES = ("/sign-in", "/sign-out", "/static/")


def way_back(wanted: str) -> str:
    """The page of ours that ``wanted`` (path and query) names, without any field that has a key's shape; else ours.

    So nobody is led out of the console, and no key that was put into a URL by mistake is repeated.
    """
    path, _, query = wanted.partition("?")
    within = _PATH.fullmatch(path) and not path.startswith(_NO_PAGES) and "//" not in path and "/.." not in path
    if not within or len(wanted) > _BYTES_MAX or query.count("&") >= _FIELDS_MAX or mask_text(path) != path:
        return HOME
    kept = [(name, value) for name, value in parse_qsl(query) if mask_text(f"{name} {value}") == f"{name} {value}"]
    return f"{path}?{urlencode(kept)}" if kept else path


def way_back_of(request: Request) -> str:
    """Back to the page that was asked for; from a form that was sent, to the page that it stood on."""
    if request.method in ("GET", "HEAD"):
        return way_back(f"{request.url.path}?{request.url.query}")
    referer = urlsplit(request.headers.get("referer", ""))
    if referer.netloc != request.headers.get("host"):
        return HOME
    return way_back(f"{referer.path}?{referer.query}")
