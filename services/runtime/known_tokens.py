"""Tokens that were found good a moment ago: a service that calls all the time sends the same one with each request."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import jwt

from services.domain.permissions import Caller
from services.runtime.jwks import SigningKeys

_KNOWN_MAX = 10_000


class Verified(NamedTuple):
    """A token that is good: whose it is, and until when, in seconds since 1970."""

    caller: Caller
    ends: int


class KnownTokens:
    """Tokens that need not be verified again while they last and the very key that they were verified with counts.

    A key is another one whenever keys were read anew, so each token is verified again after that. Kept are digests, by
    which nobody can call. Threads share it.
    """

    def __init__(self, keys: SigningKeys, *, leeway_seconds: int, clock: Callable[[], float] = time.time) -> None:
        """``leeway_seconds`` is for how long a token counts after its end; ``clock`` shows seconds since 1970."""
        self._keys = keys
        self._leeway = leeway_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[Verified, jwt.PyJWK]] = OrderedDict()

    def keep(self, token: str, verified: Verified, key: jwt.PyJWK) -> None:
        """The token was verified with ``key``."""
        with self._lock:
            self._known[_digest(token)] = verified, key
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)

    def find(self, token: str) -> Verified | None:
        """What was found, where it still holds. Never waits for keys."""
        with self._lock:
            known = self._known.get(_digest(token))
        if known is None:
            return None
        verified, key = known
        lasts = self._clock() - self._leeway < verified.ends
        return verified if lasts and self._keys.counts(key) else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
