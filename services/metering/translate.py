"""From a record's bytes to usage events: each element becomes an event or a refusal, and none harms another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError

from schemas.dead_letters import Reason
from schemas.topics import BATCH_EVENTS_MAX
from schemas.usage_events import (
    EVENT_MODELS,
    ByokClaim,
    NodeCallData,
    PlatformClaim,
    TokenUsageData,
    ToolCallData,
    UsageMessage,
)
from services.domain.masking import mask_text
from services.domain.usage import Claim, EventType, UsageEvent
from services.metering.decoding import MalformedJsonError, decode

FUTURE_MAX = timedelta(minutes=5)
_DETAIL_MAX = 300


class Refusal(NamedTuple):
    """Why an event is refused, in one sentence that names the field and holds no key."""

    reason: Reason
    detail: str


class RefusedError(Exception):
    """Carries a refusal out of the checks."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """``detail`` is masked and cut here, once for all."""
        super().__init__(detail)
        self.refusal = Refusal(reason, mask_text(detail)[:_DETAIL_MAX])


class Refused(NamedTuple):
    """An element that cannot be booked, its place in the record, and why."""

    source_index: int
    refusal: Refusal


class Accepted(NamedTuple):
    """An element that is a usage event."""

    source_index: int
    event: UsageEvent


Outcome = Accepted | Refused


def read_record(value: bytes | None, now: datetime) -> list[Outcome]:
    """What a record holds; a record that is unreadable, empty or too large counts as one event (CONTRACT section 6)."""
    try:
        held = decode(value)
    except MalformedJsonError as error:
        return [_refused_record(Reason.MALFORMED_JSON, str(error))]
    if not isinstance(held, list):
        return [_outcome(0, held, now)]
    if len(held) > BATCH_EVENTS_MAX:
        detail = f"the batch has {len(held)} events, at most {BATCH_EVENTS_MAX} are allowed"
        return [_refused_record(Reason.BATCH_TOO_LARGE, detail)]
    if not held:
        return [_refused_record(Reason.INVALID_EVENT, "the batch has no events")]
    return [_outcome(index, element, now) for index, element in enumerate(held)]


def _refused_record(reason: Reason, detail: str) -> Refused:
    return Refused(0, RefusedError(reason, detail).refusal)


def _outcome(index: int, element: Any, now: datetime) -> Outcome:
    try:
        return Accepted(index, _event(element, now))
    except RefusedError as error:
        return Refused(index, error.refusal)


def _event(raw: Any, now: datetime) -> UsageEvent:
    event = to_event(_message(raw))
    if event.occurred_at - now > FUTURE_MAX:
        raise RefusedError(Reason.TIME_IN_FUTURE, f"time is more than {FUTURE_MAX.seconds // 60} minutes ahead")
    return event


def _message(raw: Any) -> UsageMessage:
    if not isinstance(raw, dict):
        raise RefusedError(Reason.INVALID_EVENT, "an event must be a JSON object")
    event_type = raw.get("type")
    if not isinstance(event_type, str):
        raise RefusedError(Reason.INVALID_EVENT, "type: must be a string")
    model = EVENT_MODELS.get(event_type)
    if model is None:
        raise RefusedError(Reason.UNSUPPORTED_TYPE, "type: is not an event type that is metered")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise RefusedError(Reason.INVALID_EVENT, describe(error)) from None


def describe(error: ValidationError) -> str:
    """Every field that is wrong and how, without what it held."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{_place(problem['loc'])}: {_message_of(problem)}" for problem in problems)


def _place(loc: tuple[int | str, ...]) -> str:
    # pydantic puts the tag of the claim's union into the path, where no field has that name.
    return ".".join(str(part) for index, part in enumerate(loc) if not (index == 2 and loc[1] == "credential"))


def _message_of(problem: Any) -> str:
    if problem["type"] == "union_tag_invalid":
        return "source: must be 'byok' or 'platform'"
    message: str = problem["msg"].removeprefix("Value error, ")
    return message


def to_event(message: UsageMessage) -> UsageEvent:
    """The message as the core reads it: one flat event, defaults filled in."""
    data = message.data
    event = UsageEvent(
        org_id=data.org_id,
        source=message.source,
        id=message.id,
        type=EventType(message.type),
        occurred_at=message.time,
        user_id=data.user_id,
        team_id=data.team_id,
        run_id=data.run_id,
    )
    if isinstance(data, TokenUsageData):
        return event._replace(
            agent_id=data.agent_id,
            provider=data.provider,
            model=data.model,
            input_tokens=data.input_tokens,
            cached_input_tokens=data.cached_input_tokens,
            output_tokens=data.output_tokens,
            claim=_claim(data.credential),
        )
    if isinstance(data, NodeCallData):
        return event._replace(
            node=data.node,
            provider=data.provider,
            model=data.model,
            calls=data.calls,
            claim=_claim(data.credential),
        )
    if isinstance(data, ToolCallData):
        return event._replace(tool=data.tool, calls=data.calls, succeeded=data.succeeded)
    return event._replace(workflow_id=data.workflow_id, parent_run_id=data.parent_run_id)


def _claim(credential: ByokClaim | PlatformClaim | None) -> Claim | None:
    if credential is None:
        return None
    return Claim(credential.credential_id if isinstance(credential, ByokClaim) else None)
