"""Builders of events, rate cards and directories: everything has a default, a test names what it is about."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from services.domain.directory import Change, Credential, Directory, PlanHistory
from services.domain.rate_card import RateCard
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.domain.usage import Claim, EventType, UsageEvent, tokens_in
from services.messages.rate_cards import read_rate_card

ORG, TEAM, USER = "org-1", "team-1", "user-1"
PROVIDERS = ("openai", "anthropic", "google", "xai", "deepseek", "fireworks")


def utc(text: str) -> datetime:
    """The instant that ``text`` (ISO 8601) names, in UTC."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


START = utc("2026-04-27")
NOON = utc("2026-05-01T12:00:00")


def interval(start: str | datetime, end: str | datetime | None = None) -> Interval:
    """``[start, end)`` from texts or instants."""
    first, last = (utc(bound) if isinstance(bound, str) else bound for bound in (start, end))
    assert first is not None
    return Interval(first, last)


# --- what the registry log says ---------------------------------------------------------------------------------------


def credential(
    credential_id: str = "key-1",
    scope: ScopeType | str = ScopeType.PERSONAL,
    owner: str | None = None,
    *,
    org_id: str = ORG,
    provider: str = "openai",
    active: tuple[Interval, ...] | None = None,
) -> Credential:
    """A credential, active from the first rate card on unless told otherwise."""
    level = ScopeType(scope)
    owners = {ScopeType.ORGANIZATION: org_id, ScopeType.TEAM: TEAM, ScopeType.PERSONAL: USER}
    intervals = (Interval(START, None),) if active is None else active
    return Credential(credential_id, org_id, Scope(level, owner or owners[level]), provider, intervals)


def plan(name: Plan | str = Plan.ENTERPRISE, *, org_id: str = ORG, start: datetime = START) -> PlanHistory:
    """One plan from ``start`` on."""
    return PlanHistory(org_id, (PlanPeriod(Plan(name), Interval(start, None)),))


def card_body(**changes: Any) -> dict[str, Any]:
    """The body of a small card. ``changes`` replace whole sections."""
    body = {
        "usd_per_credit": "0.005",
        "tiers": {"standard": 2, "advanced": 20, "expert": 30},
        "own_key": {
            "providers": list(PROVIDERS),
            "scope_order": ["team", "personal"],
            "node_call_credits": 1,
            "token_factor": "0.5",
        },
        "tool_call": {"credits": 1, "tools": {"web_scrape": 3}},
        "workflow_run": {"credits": 1, "charge_subflows": False},
        "models": {
            "openai": {
                "small": model_line("standard", "0.25", "0.025", "2"),
                "middle": model_line("advanced", "1.25", "0.125", "10"),
                "large": model_line("expert", "15", "7.5", "60"),
            },
            "anthropic": {"large": model_line("expert", "5", "0.5", "25")},
            "mistral": {"small": model_line("standard", "0.15", "0.015", "0.15")},
        },
    }
    return copy.deepcopy(body) | changes


def model_line(tier: str, fresh: str, cached: str, output: str) -> dict[str, str]:
    """One line of a card's models."""
    return {
        "tier": tier,
        "input_usd_per_mtok": fresh,
        "cached_input_usd_per_mtok": cached,
        "output_usd_per_mtok": output,
    }


UNITS = {
    "input": {"per": 1_000_000},
    "cache_read": {"in": "input"},
    "cache_write": {"in": "input"},
    "image": {"in": "input"},
    "output": {"per": 1_000_000},
    "reasoning": {"in": "output"},
    "web_search": {"per": 1_000},
}


def card_body_2(**changes: Any) -> dict[str, Any]:
    """The body of a small card of schema 2. ``changes`` replace whole sections."""
    common = {name: value for name, value in card_body().items() if name != "models"}
    body = common | {
        "schema": 2,
        "units": UNITS,
        "inherit": ["reasoning"],
        "neutral": {"service_tier": ["default"]},
        "models": {
            "openai": {
                "small": {"tier": "standard", "usd": {"input": "0.25", "cache_read": "0.025", "output": "2"}},
                "large": {
                    "tier": "expert",
                    "usd": {
                        "input": "15",
                        "cache_read": "1.5",
                        "cache_write": "20",
                        "output": "60",
                        "web_search": "10",
                    },
                    "bands": [
                        {"above_input_tokens": 1_000, "usd": {"input": "30", "output": "90"}},
                        {"above_input_tokens": 5_000, "usd": {"input": "40"}},
                    ],
                    "windows": [{"utc": ["22:00-24:00", "00:00-06:30"], "weekdays": [5, 6], "usd": {"output": "6"}}],
                    "variants": [
                        {
                            "when": {"processing": "batch"},
                            "usd": {"input": "7.5", "output": "30"},
                            "bands": [{"above_input_tokens": 1_000, "usd": {"input": "15"}}],
                        },
                        {"when": {"service_tier": "fast"}, "usd": {"output": "120"}},
                    ],
                    "uplifts": [
                        {"when": {"region": "us"}, "times": "1.1"},
                        {"when": {"speed": "fast"}, "times": "2"},
                    ],
                },
            }
        },
    }
    return copy.deepcopy(body) | changes


def card_2(name: str = "card-2", start: datetime = START, **changes: Any) -> RateCard:
    """A small card of schema 2 in force from ``start``."""
    return read_rate_card(name, start, card_body_2(**changes))


def card(name: str = "card-1", start: datetime = START, **changes: Any) -> RateCard:
    """A small card in force from ``start``."""
    return read_rate_card(name, start, card_body(**changes))


def directory(*changes: Change, cards: tuple[RateCard, ...] | None = None) -> Directory:
    """A directory that knows one card (or ``cards``) and ``changes``, in this order."""
    known = Directory()
    for seq, change in enumerate((*((card(),) if cards is None else cards), *changes), start=1):
        assert known.apply(seq, change)
    return known


# --- events as the core reads them ------------------------------------------------------------------------------------

PLATFORM_CLAIM = Claim(None)
"""The runner says that it used the platform's key."""


def node_call(**fields: Any) -> UsageEvent:
    """One call of an AI node."""
    return _event(EventType.NODE_CALL, {"node": "ask_ai", "provider": "openai", "model": "small", "calls": 1}, fields)


def token_usage(**fields: Any) -> UsageEvent:
    """Tokens of an agent."""
    defaults = {"agent_id": "agent-1", "provider": "openai", "model": "small", "input_tokens": 1_000}
    return _event(EventType.TOKEN_USAGE, defaults, fields)


def request_usage(
    usage: dict[str, int] | None = None, conditions: dict[str, str] | None = None, **fields: Any
) -> UsageEvent:
    """What one request used, by unit."""
    counts = tuple(sorted(({"input": 1_000, "output": 200} if usage is None else usage).items()))
    defaults = {
        "agent_id": "agent-1",
        "provider": "openai",
        "model": "small",
        "usage": counts,
        "conditions": tuple(sorted((conditions or {}).items())),
        **tokens_in(dict(counts)),
    }
    return _event(EventType.TOKEN_USAGE_V2, defaults, fields)


def tool_call(**fields: Any) -> UsageEvent:
    """One call of a tool."""
    return _event(EventType.TOOL_CALL, {"tool": "send_mail", "calls": 1}, fields)


def workflow_run(**fields: Any) -> UsageEvent:
    """One run of a workflow."""
    return _event(EventType.WORKFLOW_RUN, {"workflow_id": "flow-1", "run_id": "run-1"}, fields)


def _event(kind: EventType, defaults: dict[str, Any], fields: dict[str, Any]) -> UsageEvent:
    common: dict[str, Any] = {"org_id": ORG, "source": "runner", "id": "event-1", "occurred_at": NOON, "user_id": USER}
    return UsageEvent(**(common | {"type": kind} | defaults | fields))


# --- events on the wire -----------------------------------------------------------------------------------------------

_WIRE_DATA: dict[str, dict[str, Any]] = {
    "usage.node_call.v1": {"node": "ask_ai", "provider": "openai", "model": "gpt-5"},
    "usage.token_usage.v1": {
        "agent_id": "agent-1",
        "provider": "openai",
        "model": "gpt-5",
        "input_tokens": 1_000,
        "output_tokens": 200,
    },
    "usage.tool_call.v1": {"tool": "send_mail"},
    "usage.workflow_run.v1": {"workflow_id": "flow-1", "run_id": "run-1"},
    "usage.token_usage.v2": {
        "agent_id": "agent-1",
        "provider": "openai",
        "model": "gpt-5",
        "usage": {"input": 1_000, "output": 200},
    },
}
EVENT_TYPES = tuple(_WIRE_DATA)


def wire(event_type: str = "usage.node_call.v1", **data: Any) -> dict[str, Any]:
    """A CloudEvent of ``event_type`` with the least that it needs, and ``data`` besides."""
    return {
        "specversion": "1.0",
        "id": "event-1",
        "source": "runner",
        "type": event_type,
        "time": "2026-05-01T12:00:00Z",
        "data": {"org_id": ORG, "user_id": USER, **copy.deepcopy(_WIRE_DATA[event_type]), **data},
    }
