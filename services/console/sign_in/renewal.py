"""A new token for one that is about to end, with the refresh token that the provider gave along.

Providers that exchange refresh tokens take each one once. So in one process requests of one session renew it together,
and those that still come with the session of before are given what was found; where another process was first, the
session of before goes on until its token's end, and the browser has the newer one by then.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.console.sign_in.provider import Provider, ProviderAwayError, ProviderRefusedError
from services.console.sign_in.session import Session
from services.domain.permissions import Caller
from services.runtime.known_tokens import Verified
from services.runtime.logs import logger
from services.runtime.tokens import TokenRefusedError

_log = logger(__name__)

_KEPT_SECONDS = 60.0
_AGAIN_SECONDS = 5.0
_KEPT_MAX = 10_000

Look = Callable[[str], Awaitable[Verified]]
"""Whose token it is, and until when; raises TokenRefusedError."""


class _Renewing:
    """One renewal under way, or what came of it."""

    def __init__(self, work: asyncio.Task[Session | None], kept_until: float) -> None:
        self.work = work
        self.kept_until = kept_until


class Renewals:
    """Those of one process."""

    def __init__(self, provider: Provider, look: Look, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._look = look
        self._clock = clock
        self._known: OrderedDict[str, _Renewing] = OrderedDict()

    async def renewed(self, session: Session, caller: Caller | None) -> Session | None:
        """The session with a new token; None where the provider gives none. Raises ProviderAwayError.

        ``caller`` is whose session it is, as far as its token still says so.
        """
        if session.refresh_token is None:
            return None
        # The token itself is not kept here.
        key = hashlib.sha256(session.refresh_token.encode()).hexdigest()
        known = self._known.get(key)
        if known is None or (known.work.done() and known.kept_until <= self._clock()):
            work = asyncio.ensure_future(self._renew(session, caller))
            known = self._known[key] = _Renewing(work, self._clock() + _KEPT_SECONDS)
            self._forget_oldest()
        try:
            # Whoever goes away meanwhile does not end it for the others.
            return await asyncio.shield(known.work)
        except ProviderAwayError:
            known.kept_until = min(known.kept_until, self._clock() + _AGAIN_SECONDS)
            raise

    async def _renew(self, session: Session, caller: Caller | None) -> Session | None:
        try:
            tokens = await self._provider.renew(session.refresh_token or "")
            found = await self._look(tokens.token)
        except ProviderRefusedError as refused:
            _log.info("session not renewed", code=refused.code)
            return None
        except TokenRefusedError as refused:
            _log.warning("session renewed with a token that is not good", error=str(refused))
            return None
        if caller is not None and (found.caller.id, found.caller.org_id) != (caller.id, caller.org_id):
            _log.warning("session renewed with a token of somebody else")
            return None
        return replace(session, token=tokens.token, refresh_token=tokens.refresh_token, ends=found.ends)

    def _forget_oldest(self) -> None:
        while len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)
