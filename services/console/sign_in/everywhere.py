"""Signing out everywhere: the key registry knows since when somebody's sessions count, and is asked now and then.

Where it is away, what was last known stands for whoever reads, until the token's own end; what changes something needs
an answer (docs/adr/0039).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.console.apis import Api, ApiError
from services.domain.permissions import Caller
from services.runtime.logs import logger

_log = logger(__name__)

_ANSWER_SECONDS = 3.0
_KNOWN_MAX = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Known(NamedTuple):
    ended_before: int
    asked_at: float
    answered: bool
    """Whether there was an answer then; else it is the one before that."""


class EndedSessions:
    """Since when the sessions of each person count, in microseconds since 1970; 0: always."""

    def __init__(self, check_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``check_seconds`` is for how long an answer counts."""
        self._seconds = check_seconds
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    async def known(self, registry: Api, caller: Caller, *, sure: bool) -> int | None:
        """What is known, asked anew where that is too long ago; None: nothing, for nobody answers.

        Where nobody answers, what was known before stands, unless one has to be ``sure``.
        """
        known = self._known.get((caller.org_id, caller.id))
        if known is not None and known.asked_at + self._seconds > self._clock() and known.answered >= sure:
            return known.ended_before
        now = await self.asked(registry, caller)
        if now is not None or sure or known is None:
            return now
        # Not with every page: each would wait for an answer.
        return self._keep(caller, known.ended_before, answered=False)

    async def asked(self, registry: Api, caller: Caller) -> int | None:
        """What the key registry says now; None where it does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await registry.get("sessions")
        except (ApiError, TimeoutError) as error:
            _log.warning("who signed out everywhere is not known", error=type(error).__name__)
            return None
        return self._keep(caller, _microseconds(answer.get("ended_before")))

    async def end(self, registry: Api, caller: Caller) -> None:
        """End all sessions of the caller. Raises ApiError."""
        answer = await registry.post("sessions", "end", body={})
        self._keep(caller, _microseconds(answer.get("ended_before")))

    def _keep(self, caller: Caller, ended_before: int, *, answered: bool = True) -> int:
        who = (caller.org_id, caller.id)
        self._known.pop(who, None)
        self._known[who] = _Known(ended_before, self._clock(), answered)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return ended_before


def _microseconds(time_of_answer: object) -> int:
    if not isinstance(time_of_answer, str):
        return 0
    return (datetime.fromisoformat(time_of_answer) - _EPOCH) // timedelta(microseconds=1)
