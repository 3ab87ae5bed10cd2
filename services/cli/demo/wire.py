"""A usage event of the core as the CloudEvent that a runner would send (docs/contract.md, section 3)."""

from __future__ import annotations

from typing import Any

from services.domain.usage import EventType, UsageEvent

_DATA = {
    EventType.NODE_CALL: ("node", "provider", "model", "calls"),
    EventType.TOKEN_USAGE: (
        *("agent_id", "provider", "model"),
        *("input_tokens", "cached_input_tokens", "output_tokens"),
    ),
    EventType.TOOL_CALL: ("tool", "calls", "succeeded"),
    EventType.WORKFLOW_RUN: ("workflow_id", "parent_run_id"),
}


def to_cloud_event(event: UsageEvent) -> dict[str, Any]:
    """The event in its JSON form."""
    names = ("org_id", "user_id", "team_id", "run_id", *_DATA[event.type])
    data: dict[str, Any] = {name: value for name in names if (value := getattr(event, name)) is not None}
    if event.claim is not None:
        credential_id = event.claim.credential_id
        data["credential"] = (
            {"source": "platform"} if credential_id is None else {"source": "byok", "credential_id": credential_id}
        )
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type.value,
        "time": event.occurred_at.isoformat(),
        "data": data,
    }
