"""A message as the core reads it: one flat event, defaults filled in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from schemas.usage_events import UsageMessage
from services.domain.usage import Claim, EventType, UsageEvent, tokens_in


def to_event(message: UsageMessage, at: datetime) -> UsageEvent:
    """The event that a message tells of, which happened ``at``.

    Whatever has the fields of a message will do: what ``good_events.py`` reads, too.
    """
    return _EVENT_OF[message.type](message, at)


# Written out type by type, for it is done for every event: an event that is changed step by step takes four times as
# long.
def _node_call(said: Any, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        EventType.NODE_CALL,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        node=data.node,
        provider=data.provider,
        model=data.model,
        calls=data.calls,
        claim=_claim(data.credential),
    )


def _token_usage(said: Any, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        EventType.TOKEN_USAGE,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        data.agent_id,
        provider=data.provider,
        model=data.model,
        input_tokens=data.input_tokens,
        cached_input_tokens=data.cached_input_tokens,
        output_tokens=data.output_tokens,
        claim=_claim(data.credential),
    )


def _token_usage_v2(said: Any, at: datetime) -> UsageEvent:
    data = said.data
    usage = tuple(sorted(data.usage.items()))
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        EventType.TOKEN_USAGE_V2,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        data.agent_id,
        provider=data.provider,
        model=data.model,
        **tokens_in(usage),
        claim=_claim(data.credential),
        usage=usage,
        conditions=tuple(sorted(data.conditions.items())),
        is_partial=data.usage_status == "partial",
        provider_request_id=data.provider_request_id,
        provider_cost_usd=data.provider_cost_usd,
    )


def _tool_call(said: Any, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        EventType.TOOL_CALL,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        tool=data.tool,
        calls=data.calls,
        succeeded=data.succeeded,
    )


def _workflow_run(said: Any, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        EventType.WORKFLOW_RUN,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        workflow_id=data.workflow_id,
        parent_run_id=data.parent_run_id,
    )


_EVENT_OF: dict[str, Callable[[Any, datetime], UsageEvent]] = {
    EventType.NODE_CALL.value: _node_call,
    EventType.TOKEN_USAGE.value: _token_usage,
    EventType.TOKEN_USAGE_V2.value: _token_usage_v2,
    EventType.TOOL_CALL.value: _tool_call,
    EventType.WORKFLOW_RUN.value: _workflow_run,
}


def _claim(credential: Any) -> Claim | None:
    if credential is None:
        return None
    return Claim(getattr(credential, "credential_id", None))
