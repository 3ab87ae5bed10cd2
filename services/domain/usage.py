"""What was used: one usage event after its wire form has been checked, and its identity and payload."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypedDict, assert_never

from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, Conditions, Counts
from services.domain.values import Value

CALLS_MAX = 10**6
"""How many calls one event may report."""
TOKENS_MAX = 10**10
"""How many tokens one event may report in each direction, or of any unit."""


class EventType(StrEnum):
    """The acts that cost credits (docs/contract.md, section 3)."""

    NODE_CALL = "usage.node_call.v1"
    TOKEN_USAGE = "usage.token_usage.v1"  # noqa: S105 - a kind of event, not a password
    TOKEN_USAGE_V2 = "usage.token_usage.v2"  # noqa: S105 - likewise
    TOOL_CALL = "usage.tool_call.v1"
    WORKFLOW_RUN = "usage.workflow_run.v1"

    # Every event is counted by it, and an Enum's own hash is computed in Python.
    __hash__ = str.__hash__

    @property
    def counts_calls(self) -> bool:
        """Whether the quantity of such an event is its calls."""
        match self:
            case EventType.NODE_CALL | EventType.TOOL_CALL:
                return True
            case EventType.TOKEN_USAGE | EventType.TOKEN_USAGE_V2 | EventType.WORKFLOW_RUN:
                return False
            case _:
                assert_never(self)


class Claim(NamedTuple):
    """What the runner says it used: its customer's key (with the credential's id) or the platform's (without)."""

    credential_id: str | None

    @property
    def is_platform(self) -> bool:
        """Whether the runner says that it used the platform's key."""
        return self.credential_id is None


class Identity(NamedTuple):
    """What makes two messages the same event, for ever."""

    org_id: str
    source: str
    id: str


class UsageEvent(Value, frozen=True):
    """One act of use. Fields that its type does not have are None (counts: 0)."""

    org_id: str
    source: str
    id: str
    type: EventType
    occurred_at: datetime
    user_id: str
    team_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    workflow_id: str | None = None
    parent_run_id: str | None = None
    node: str | None = None
    tool: str | None = None
    provider: str | None = None
    model: str | None = None
    calls: int = 0
    succeeded: bool = True
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    claim: Claim | None = None
    usage: Counts = ()
    """What a request used, unit by unit, where the event says it so."""
    conditions: Conditions = ()
    is_partial: bool = False
    """Whether the answer was cut off, so that more may have been used than is known."""
    provider_request_id: str | None = None
    provider_cost_usd: str | None = None
    """What the provider says it costs: evidence, never a price."""

    @property
    def identity(self) -> Identity:
        """Organization, source and id: the key under which the event is charged once."""
        return Identity(self.org_id, self.source, self.id)

    @property
    def quantity(self) -> int:
        """How much was used: calls, tokens (input and output) or one run."""
        match self.type:
            case EventType.TOKEN_USAGE | EventType.TOKEN_USAGE_V2:
                return self.input_tokens + self.output_tokens
            case EventType.NODE_CALL | EventType.TOOL_CALL:
                return self.calls
            case EventType.WORKFLOW_RUN:
                return 1
            case _:
                assert_never(self.type)


class Tokens(TypedDict):
    """The counts that every event of tokens has."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


def tokens_in(usage: Counts) -> Tokens:
    """The same counts of an event that counts by units."""
    counts = dict(usage)
    return {
        "input_tokens": counts.get(INPUT, 0),
        "cached_input_tokens": counts.get(CACHE_READ, 0),
        "output_tokens": counts.get(OUTPUT, 0),
    }


def payload_hash(event: UsageEvent) -> bytes:
    """What tells a duplicate from a conflict: SHA-256 over type, instant and known data, after defaults.

    The payload of the v1 types is the fields that it had first and no others, now and later.
    """
    match event.type:
        case EventType.TOKEN_USAGE_V2:
            return _payload_hash_v2(event)
        case EventType.NODE_CALL | EventType.TOKEN_USAGE | EventType.TOOL_CALL | EventType.WORKFLOW_RUN:
            return _payload_hash_v1(event)
        case _:
            assert_never(event.type)


# Written out, and for ever: an event that was booked years ago must hash the same when it is delivered again, whatever
# fields events have by then.
def _payload_hash_v1(event: UsageEvent) -> bytes:
    return _digest(
        f"{event.type!s}\x1f{event.occurred_at.isoformat()}\x1f{event.user_id}\x1f{event.team_id or ''}"
        f"\x1f{event.run_id or ''}\x1f{event.agent_id or ''}\x1f{event.workflow_id or ''}"
        f"\x1f{event.parent_run_id or ''}\x1f{event.node or ''}\x1f{event.tool or ''}"
        f"\x1f{event.provider or ''}\x1f{event.model or ''}"
        f"\x1f{event.calls}\x1f{event.succeeded}\x1f{event.input_tokens}\x1f{event.cached_input_tokens}"
        f"\x1f{event.output_tokens}\x1f{'' if event.claim is None else _claimed(event.claim, ':')}"
    )


def _payload_hash_v2(event: UsageEvent) -> bytes:
    """By names, in their order: what is at its default is not in it, so that a field that comes later changes no older
    event's hash."""
    usage = [f"\x1fusage\x1e{unit}\x1f{count}" for unit, count in event.usage if count]
    conditions = [f"\x1fconditions\x1e{name}\x1f{value}" for name, value in event.conditions]
    claim = None if event.claim is None else _claimed(event.claim, "\x1e")
    status = "partial" if event.is_partial else None
    return _digest(
        f"{event.type!s}\x1f{event.occurred_at.isoformat()}{_named('agent_id', event.agent_id)}"
        f"{''.join(conditions)}{_named('credential', claim)}{_named('model', event.model)}"
        f"{_named('provider', event.provider)}"
        f"{_named('provider_cost_usd', event.provider_cost_usd)}"
        f"{_named('provider_request_id', event.provider_request_id)}{_named('run_id', event.run_id)}"
        f"{_named('team_id', event.team_id)}{''.join(usage)}"
        f"{_named('usage_status', status)}{_named('user_id', event.user_id)}"
    )


def _named(name: str, value: str | None) -> str:
    return "" if value is None else f"\x1f{name}\x1f{value}"


def _claimed(claim: Claim, parted_by: str) -> str:
    return "platform" if claim.is_platform else f"byok{parted_by}{claim.credential_id}"


def fingerprint(*values: str) -> bytes:
    """SHA-256 over values that hold no control characters, as no id does: so one separates them without doubt."""
    return _digest("\x1f".join(values))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
