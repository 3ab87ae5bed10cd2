"""One attempt to sign in at the provider: what has to come back from there, sealed in a cookie of its own.

So whatever comes back counts only in the browser that went there, once, within ten minutes; and two tabs are two
attempts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import NamedTuple, Self

from starlette.responses import Response

from services.console.sign_in.sealing import Seals

COOKIE = "byok_attempt"
PATH = "/sign-in"
SECONDS = 600
_PURPOSE = "attempt"
_AT_ONCE_MAX = 5


class Attempt(NamedTuple):
    """What was sent along, and where to go on."""

    state: str
    nonce: str
    verifier: str
    wanted: str

    @classmethod
    def new(cls, wanted: str) -> Self:
        """An attempt that nobody can guess."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, wanted)


class Attempts:
    """Keeps attempts in the browser, and finds them there."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def keep(self, response: Response, attempt: Attempt, cookies: Mapping[str, str], *, secure: bool) -> None:
        """Have the browser keep the attempt; ``cookies`` are those that it has, too many of which are dropped."""
        others = [name for name in cookies if name.startswith(f"{COOKIE}_")]
        for name in others if len(others) >= _AT_ONCE_MAX else ():
            response.delete_cookie(name, PATH, httponly=True, samesite="lax", secure=secure)
        sealed = self._seals.seal(_PURPOSE, json.dumps(attempt).encode())
        # Lax: the provider sends the browser back by a link.
        response.set_cookie(
            _name(attempt.state), sealed, SECONDS, path=PATH, httponly=True, samesite="lax", secure=secure
        )

    def find(self, state: str, cookies: Mapping[str, str]) -> Attempt | None:
        """The attempt of this state; None where this browser has none, or its time is over."""
        opened = self._seals.open(_PURPOSE, cookies.get(_name(state), ""), seconds=SECONDS)
        attempt = None if opened is None else Attempt(*json.loads(opened))
        return attempt if attempt is not None and secrets.compare_digest(attempt.state, state) else None


def forget_attempt(response: Response, state: str, *, secure: bool) -> None:
    """Have the browser drop it: it counts once."""
    response.delete_cookie(_name(state), PATH, httponly=True, samesite="lax", secure=secure)


def _name(state: str) -> str:
    return f"{COOKIE}_{hashlib.sha256(state.encode()).hexdigest()[:16]}"
