"""The session: whose token it is and its csrf word, sealed in cookies that only the console can read or make.

There is no other place where a session is: any copy of the console that has the key can go on with it.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from starlette.responses import Response

from services.console.sign_in.sealing import Seals

COOKIE = "byok_session"
"""Its parts have the names byok_session_0, byok_session_1 and so on."""
# Browsers keep no longer cookies than 4,096 bytes, name included; proxies take about 8 kB of them all unless told.
_PART_CHARACTERS = 3_800
_PARTS_MAX = 3
_PURPOSE = "session"
_LATEST_SECONDS = 60
"""So long before its end a token is exchanged for a new one."""


class SignedOutError(Exception):
    """There is no session, or its time is over."""


class SessionTooLongError(ValueError):
    """The tokens are longer than what a browser can be given to keep."""


@dataclass(frozen=True)
class Session:
    """Who is signed in; times are seconds since 1970."""

    token: str = field(repr=False)
    """The bearer token that the services are asked with."""
    began: int
    """When the person signed in."""
    csrf: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))
    """What every form of this session has to bring along."""
    refresh_token: str | None = field(repr=False, default=None)
    """What the identity provider gives a new token for; None: it gave none."""
    ends: int | None = None
    """When the token ends."""
    ended_before: int | None = None
    """Before when the person's sessions had ended when this one began, in microseconds since 1970; 0: none ever was
    ended, None: the key registry could not be asked."""

    def is_due(self, now: float) -> bool:
        """Whether it is time to get a new token, where that can be had."""
        return self.refresh_token is not None and self.ends is not None and self.ends - _LATEST_SECONDS <= now

    def is_over(self, ended_before: int) -> bool:
        """Whether the person has signed out everywhere since, by what the key registry says now."""
        # What was known at the beginning is of the same clock; the console's may be another.
        began = self.began * 1_000_000 if self.ended_before is None else self.ended_before
        return ended_before > began


class SessionKeys:
    """Seals sessions in cookies; ``lifetime_seconds`` is how long one lasts, however much it is used."""

    def __init__(self, seals: Seals, lifetime_seconds: int) -> None:
        self._seals = seals
        self._lifetime = lifetime_seconds

    def read(self, cookies: Mapping[str, str], now: float) -> Session | None:
        """The session in the cookies; None where there is none, it was tampered with, or its time is over."""
        sealed = "".join(cookies.get(_part(number), "") for number in range(_PARTS_MAX))
        opened = self._seals.open(_PURPOSE, sealed) if sealed else None
        if opened is None:
            return None
        # Whatever is in it now was put there by us.
        session = Session(**json.loads(zlib.decompress(opened)))
        return session if session.began + self._lifetime > now else None

    def write(self, response: Response, session: Session, *, secure: bool) -> None:
        """Have the browser keep the session until it is closed. Raises SessionTooLongError."""
        sealed = self._seals.seal(_PURPOSE, zlib.compress(json.dumps(asdict(session)).encode()))
        if len(sealed) > _PARTS_MAX * _PART_CHARACTERS:
            raise SessionTooLongError
        for number in range(_PARTS_MAX):
            part = sealed[number * _PART_CHARACTERS : (number + 1) * _PART_CHARACTERS]
            if part:
                response.set_cookie(_part(number), part, httponly=True, samesite="lax", secure=secure)
            else:
                # Else a longer session before this one would leave its end.
                _forget(response, number, secure=secure)


def had_session(cookies: Mapping[str, str]) -> bool:
    """Whether there was one, good or not."""
    return _part(0) in cookies


def forget_session(response: Response, *, secure: bool) -> None:
    """Have the browser drop it."""
    for number in range(_PARTS_MAX):
        _forget(response, number, secure=secure)


def _forget(response: Response, number: int, *, secure: bool) -> None:
    response.delete_cookie(_part(number), httponly=True, samesite="lax", secure=secure)


def _part(number: int) -> str:
    return f"{COOKIE}_{number}"
