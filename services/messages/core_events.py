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
    event_type, event_of = _EVENT_OF[message.type]
    return event_of(message, event_type, at)


# Written out type by type, for it is done for every event: an event that is changed step by step takes four times as
# long, and one whose parts are named instead of standing in their order half as long again.
def _node_call(said: Any, event_type: EventType, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        event_type,
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


def _token_usage(said: Any, event_type: EventType, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        event_type,
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


def _token_usage_v2(said: Any, event_type: EventType, at: datetime) -> UsageEvent:
    data = said.data
    tokens = tokens_in(data.usage)
    workflow_id = parent_run_id = node = tool = None
    calls, succeeded = 0, True
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        event_type,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        data.agent_id,
        workflow_id,
        parent_run_id,
        node,
        tool,
        data.provider,
        data.model,
        calls,
        succeeded,
        tokens["input_tokens"],
        tokens["cached_input_tokens"],
        tokens["output_tokens"],
        _claim(data.credential),
        tuple(sorted(data.usage.items())),
        tuple(sorted(data.conditions.items())) if data.conditions else (),
        data.usage_status == "partial",
        data.provider_request_id,
        data.provider_cost_usd,
    )


def _tool_call(said: Any, event_type: EventType, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        event_type,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        tool=data.tool,
        calls=data.calls,
        succeeded=data.succeeded,
    )


def _workflow_run(said: Any, event_type: EventType, at: datetime) -> UsageEvent:
    data = said.data
    return UsageEvent(
        data.org_id,
        said.source,
        said.id,
        event_type,
        at,
        data.user_id,
        data.team_id,
        data.run_id,
        workflow_id=data.workflow_id,
        parent_run_id=data.parent_run_id,
    )


_EVENT_OF: dict[str, tuple[EventType, Callable[[Any, EventType, datetime], UsageEvent]]] = {
    event_type.value: (event_type, event_of)
    for event_type, event_of in (
        (EventType.NODE_CALL, _node_call),
        (EventType.TOKEN_USAGE, _token_usage),
        (EventType.TOKEN_USAGE_V2, _token_usage_v2),
        (EventType.TOOL_CALL, _tool_call),
        (EventType.WORKFLOW_RUN, _workflow_run),
    )
}


def _claim(credential: Any) -> Claim | None:
    if credential is None:
        return None
    return Claim(getattr(credential, "credential_id", None))
