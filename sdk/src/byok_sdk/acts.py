"""Runs and acts without their I/O: which events they are. ``runs`` and ``async_runs`` record them.

Identity and time of an act are fixed when it begins, before any provider is called. What it used is known later.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from byok_sdk.errors import InvalidEventError
from byok_sdk.events import NODE_CALL, TOKEN_USAGE, TOOL_CALL, WORKFLOW_RUN, Whose, check_id, event_bytes
from byok_sdk.identity import Steps, random_event_id, response_event_id, run_event_id
from byok_sdk.leases import Lease
from byok_sdk.usage.measured import Usage

Clock = Callable[[], datetime]


class ActEvents:
    """The events of one act: one for each answer of a provider."""

    def __init__(
        self, whose: Whose, source: str, agent: str, at: datetime, named: Callable[[int, str, str | None], str]
    ) -> None:
        """``named`` gives the id of the n-th answer (from 1) of a provider, with its own id."""
        self.whose, self.agent, self.at = whose, agent, at
        self._source, self._named = source, named
        self._answers = 0

    def answered(self, usage: Usage, provider: str, lease: Lease | None) -> bytes:
        """The event of the next answer, which is the next one until ``recorded``. Raises InvalidEventError."""
        attempt = self._answers + 1
        data = {
            **self.whose.data(),
            "agent_id": self.agent,
            "provider": provider,
            **usage.data(),
            "credential": None if lease is None else lease.claim,
        }
        event_id = self._named(attempt, provider, usage.response_id)
        return event_bytes(TOKEN_USAGE, event_id, self._source, self.at, data)

    def recorded(self) -> None:
        """It is on disk: what comes now is another answer."""
        self._answers += 1

    @property
    def answers(self) -> int:
        """How many are recorded."""
        return self._answers


class RunEvents:
    """The events of one run, or of what is done outside of any."""

    def __init__(self, whose: Whose, source: str, clock: Clock) -> None:
        """Raises InvalidEventError for ids that are none."""
        for name, value in whose.data().items():
            check_id(name, value)
        self.whose = whose
        self._source, self._clock = source, clock
        self._steps = Steps()

    def act(self, step: str, agent: str | None, key: str | None, at: datetime | None) -> ActEvents:
        """An act that begins now, or ``at``. Raises StepTakenError where its key was given before."""
        check_id("step", step)
        began, run_id = at or self._clock(), self.whose.run_id
        occurrence = self._steps.occurrence(TOKEN_USAGE, step, key)
        fallback = random_event_id()

        def named(attempt: int, provider: str, response_id: str | None) -> str:
            if run_id is not None:
                return run_event_id(TOKEN_USAGE, run_id, step, occurrence, attempt)
            if response_id is not None:
                return response_event_id(TOKEN_USAGE, provider, response_id)
            return fallback if attempt == 1 else str(uuid.uuid5(uuid.UUID(fallback), str(attempt)))

        return ActEvents(self.whose, self._source, agent or step, began, named)

    def node(self, node: str, provider: str, model: str, calls: int, lease: Lease | None, **more: Any) -> bytes:
        """The event of a node that called a model; ``more`` are ``key`` and ``at``."""
        claim = None if lease is None else lease.claim
        data = {"node": node, "provider": provider, "model": model, "calls": calls, "credential": claim}
        return self._event(NODE_CALL, node, data, **more)

    def tool(self, tool: str, calls: int, *, succeeded: bool, **more: Any) -> bytes:
        """The event of calls of a tool."""
        return self._event(TOOL_CALL, tool, {"tool": tool, "calls": calls, "succeeded": succeeded}, **more)

    def workflow(self, workflow_id: str, parent_run_id: str | None, **more: Any) -> bytes:
        """The event of the run itself."""
        if self.whose.run_id is None:
            raise InvalidEventError("run_id is needed for a workflow's run")
        return self._event(
            WORKFLOW_RUN, workflow_id, {"workflow_id": workflow_id, "parent_run_id": parent_run_id}, **more
        )

    def _event(
        self, event_type: str, step: str, data: Mapping[str, Any], key: str | None = None, at: datetime | None = None
    ) -> bytes:
        check_id("step", step)
        occurrence, run_id = self._steps.occurrence(event_type, step, key), self.whose.run_id
        event_id = random_event_id() if run_id is None else run_event_id(event_type, run_id, step, occurrence, 1)
        return event_bytes(event_type, event_id, self._source, at or self._clock(), {**self.whose.data(), **data})


def rejected_status(error: BaseException) -> int | None:
    """401 or 403 where a provider's package says so of its answer, in whichever of the usual ways; else None."""
    response = getattr(error, "response", None)
    for told in (error, response):
        for name in ("status_code", "code", "status"):
            status = getattr(told, name, None)
            if status in (401, 403):
                return int(status)
    return None


def provider_of(given: str | None, lease: Lease | None) -> str:
    """Whose answer it is: as given, or as the lease says. Raises TypeError where neither does."""
    provider = given or (lease.provider if lease is not None else None)
    if provider is None:
        raise TypeError("give the lease that was used, or provider=")
    return provider
