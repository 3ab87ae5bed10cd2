"""What was used: one usage event after its wire form has been checked, and its identity and payload."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple, TypedDict, assert_never

from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, Conditions, Counts

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


class UsageEvent(NamedTuple):
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


# By name, and for ever: an event that was booked years ago must hash the same when it is delivered again, whatever
# fields events have by then.
_PAYLOAD_V1 = (
    *("user_id", "team_id", "run_id", "agent_id", "workflow_id", "parent_run_id", "node", "tool", "provider", "model"),
    *("calls", "succeeded", "input_tokens", "cached_input_tokens", "output_tokens"),
)
_payload_v1 = attrgetter(*_PAYLOAD_V1)
_TEXTS_V2 = (
    "agent_id",
    "model",
    "provider",
    "provider_cost_usd",
    "provider_request_id",
    "run_id",
    "team_id",
    "user_id",
)
_texts_v2 = attrgetter(*_TEXTS_V2)


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


def _payload_hash_v1(event: UsageEvent) -> bytes:
    claim = "" if event.claim is None else f"byok:{event.claim.credential_id}"
    if event.claim is not None and event.claim.is_platform:
        claim = "platform"
    return fingerprint(event.type.value, event.occurred_at.isoformat(), *_payload_v1(event), claim)


def _payload_hash_v2(event: UsageEvent) -> bytes:
    """By names: what is at its default is not in it, so that a field that comes later changes no older event's hash."""
    said = {name: value for name, value in zip(_TEXTS_V2, _texts_v2(event), strict=True) if value is not None}
    said |= {f"usage\x1e{unit}": count for unit, count in event.usage if count}
    said |= {f"conditions\x1e{name}": value for name, value in event.conditions}
    if event.claim is not None:
        said["credential"] = "platform" if event.claim.is_platform else f"byok\x1e{event.claim.credential_id}"
    if event.is_partial:
        said["usage_status"] = "partial"
    named = [part for name in sorted(said) for part in (name, said[name])]
    return fingerprint(event.type.value, event.occurred_at.isoformat(), *named)


def fingerprint(*values: object) -> bytes:
    """SHA-256 over values that hold no control characters, as no id does: so one separates them without doubt."""
    return hashlib.sha256("\x1f".join(["" if value is None else str(value) for value in values]).encode()).digest()
