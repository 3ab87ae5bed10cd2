"""What was used: one usage event after its wire form has been checked, and its identity and payload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple, TypedDict, assert_never

from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, Conditions, Counts
from services.domain.values import Value, instant_text

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
        return _QUANTITY_OF[self.type](self)


# What is done for every event is looked up by its type: a ``match`` looks up the types themselves, each time.
_calls: Callable[[UsageEvent], int] = attrgetter("calls")


def _tokens(event: UsageEvent) -> int:
    return event.input_tokens + event.output_tokens


def _one_run(_event: UsageEvent) -> int:
    return 1


_QUANTITY_OF: Mapping[EventType, Callable[[UsageEvent], int]] = {
    EventType.NODE_CALL: _calls,
    EventType.TOKEN_USAGE: _tokens,
    EventType.TOKEN_USAGE_V2: _tokens,
    EventType.TOOL_CALL: _calls,
    EventType.WORKFLOW_RUN: _one_run,
}


class Tokens(TypedDict):
    """The counts that every event of tokens has."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


def tokens_in(usage: Mapping[str, int]) -> Tokens:
    """The same counts of an event that counts by units."""
    return {
        "input_tokens": usage.get(INPUT, 0),
        "cached_input_tokens": usage.get(CACHE_READ, 0),
        "output_tokens": usage.get(OUTPUT, 0),
    }


def payload_hash(event: UsageEvent) -> bytes:
    """What tells a duplicate from a conflict: SHA-256 over type, instant and known data, after defaults.

    The payload of the v1 types is the fields that it had first and no others, now and later.
    """
    return _HASH_OF[event.type](event)


# Written out, and for ever: an event that was booked years ago must hash the same when it is delivered again, whatever
# fields events have by then.
def _payload_hash_v1(event: UsageEvent) -> bytes:
    return digest(
        f"{event.type!s}\x1f{instant_text(event.occurred_at)}\x1f{event.user_id}\x1f{event.team_id or ''}"
        f"\x1f{event.run_id or ''}\x1f{event.agent_id or ''}\x1f{event.workflow_id or ''}"
        f"\x1f{event.parent_run_id or ''}\x1f{event.node or ''}\x1f{event.tool or ''}"
        f"\x1f{event.provider or ''}\x1f{event.model or ''}"
        f"\x1f{event.calls}\x1f{event.succeeded}\x1f{event.input_tokens}\x1f{event.cached_input_tokens}"
        f"\x1f{event.output_tokens}\x1f{'' if event.claim is None else _claimed(event.claim, ':')}"
    )


def _payload_hash_v2(event: UsageEvent) -> bytes:
    """By names, in their order: what is at its default is not in it, so that a field that comes later changes no older
    event's hash."""
    said = [f"{event.type!s}\x1f{instant_text(event.occurred_at)}"]
    if event.agent_id is not None:
        said.append(f"agent_id\x1f{event.agent_id}")
    if event.conditions:
        said += [f"conditions\x1e{name}\x1f{value}" for name, value in event.conditions]
    if event.claim is not None:
        said.append("credential\x1f" + _claimed(event.claim, "\x1e"))
    said.append(f"model\x1f{event.model}\x1fprovider\x1f{event.provider}")
    if event.provider_cost_usd is not None:
        said.append(f"provider_cost_usd\x1f{event.provider_cost_usd}")
    if event.provider_request_id is not None:
        said.append(f"provider_request_id\x1f{event.provider_request_id}")
    if event.run_id is not None:
        said.append(f"run_id\x1f{event.run_id}")
    if event.team_id is not None:
        said.append(f"team_id\x1f{event.team_id}")
    said += [f"usage\x1e{unit}\x1f{count}" for unit, count in event.usage if count]
    if event.is_partial:
        said.append("usage_status\x1fpartial")
    said.append(f"user_id\x1f{event.user_id}")
    return digest("\x1f".join(said))


_HASH_OF: Mapping[EventType, Callable[[UsageEvent], bytes]] = {
    EventType.NODE_CALL: _payload_hash_v1,
    EventType.TOKEN_USAGE: _payload_hash_v1,
    EventType.TOKEN_USAGE_V2: _payload_hash_v2,
    EventType.TOOL_CALL: _payload_hash_v1,
    EventType.WORKFLOW_RUN: _payload_hash_v1,
}


def _claimed(claim: Claim, parted_by: str) -> str:
    return "platform" if claim.is_platform else f"byok{parted_by}{claim.credential_id}"


def digest(text: str) -> bytes:
    """SHA-256 of the text in UTF-8."""
    return hashlib.sha256(text.encode()).digest()
