"""Calls that somebody else made and tells of afterwards: a proxy, a tracer, a framework's callbacks. Without I/O.

Nothing was fixed before such a call, so its event is known by the provider's id of its answer, whoever tells of it and
however often. Whose call it was is said in tags, a flat mapping of strings that passes through whatever carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from byok_sdk.errors import InvalidEventError
from byok_sdk.events import TOKEN_USAGE, TOOL_CALL, Whose, event_bytes
from byok_sdk.identity import random_event_id, response_event_id
from byok_sdk.leases import Lease
from byok_sdk.usage.measured import Usage

Tags = Mapping[str, Any]
"""``byok_org``, ``byok_user``, ``byok_team``, ``byok_run``, ``byok_agent`` (or ``byok_step``), ``byok_credential``."""

_PLATFORM = "platform"
_LEDGER_NAMES = {
    # LiteLLM's names of providers.
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "vertex_ai": "google",
    # OpenTelemetry's, those of before 1.37 included.
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "x_ai": "xai",
}


class Told(Protocol):
    """What a hook tells of."""

    def event(self, source: str) -> tuple[str, bytes]:
        """Its id, and the event as it is sent. Raises InvalidEventError where nobody can be charged for it."""


class Observed(NamedTuple):
    """One request that a provider answered, as it was told of."""

    tags: Tags
    provider: str
    """As the rate cards name it (``ledger_name``)."""
    usage: Usage
    at: datetime
    """When it began."""
    teller: str
    """Who told of it; shown as the agent where the tags say none."""
    call_id: str | None = None
    """What identifies it where the provider's id is not known."""

    def event(self, source: str) -> tuple[str, bytes]:
        """Its id, and the event as it is sent. Raises InvalidEventError where nobody can be charged for it."""
        tags, usage = self.tags, self.usage
        whose = whose_of(tags)
        known_by = usage.response_id or self.call_id
        if known_by is None:
            raise InvalidEventError("nothing tells it from other calls: it has no id")
        event_id = response_event_id(TOKEN_USAGE, self.provider, known_by)
        data = {
            **whose.data(),
            "agent_id": tags.get("byok_agent") or tags.get("byok_step") or self.teller,
            "provider": self.provider,
            **usage.data(),
            "credential": _claim(tags.get("byok_credential")),
        }
        return event_id, event_bytes(TOKEN_USAGE, event_id, source, self.at, data)


class ToolCalled(NamedTuple):
    """One call of a tool that a framework carried out."""

    tags: Tags
    tool: str
    succeeded: bool
    at: datetime
    """When it was called."""

    def event(self, source: str) -> tuple[str, bytes]:
        """Its id, and the event as it is sent. Raises InvalidEventError where nobody can be charged for it.

        Ids that models give to calls of tools are often numbers, the same in every conversation; so it has one of its
        own, made once.
        """
        event_id = random_event_id()
        data = {**whose_of(self.tags).data(), "tool": self.tool, "succeeded": self.succeeded}
        return event_id, event_bytes(TOOL_CALL, event_id, source, self.at, data)


def ledger_name(provider: str) -> str:
    """A provider as the rate cards name it. One that has no other name there keeps its own."""
    return _LEDGER_NAMES.get(provider, provider)


def tags_of(whose: Whose, step: str, agent: str | None, lease: Lease | None) -> dict[str, str]:
    """What to hand to whoever makes the calls, so that they are recorded for ``whose``."""
    told = {
        "byok_org": whose.org_id,
        "byok_user": whose.user_id,
        "byok_team": whose.team_id,
        "byok_run": whose.run_id,
        "byok_agent": agent or step,
        "byok_credential": None if lease is None else lease.claim.get("credential_id", _PLATFORM),
    }
    return {name: value for name, value in told.items() if value is not None}


def whose_of(tags: Tags) -> Whose:
    """Whom the tags charge. Raises InvalidEventError where they say nobody."""
    missing = [name for name in ("byok_org", "byok_user") if not tags.get(name)]
    if missing:
        raise InvalidEventError(f"nobody is said to be charged for it: {', '.join(missing)} is missing")
    return Whose(tags["byok_org"], tags["byok_user"], tags.get("byok_team"), tags.get("byok_run"))


def _claim(credential: str | None) -> dict[str, str] | None:
    if not credential:
        return None
    return {"source": _PLATFORM} if credential == _PLATFORM else {"source": "byok", "credential_id": credential}
