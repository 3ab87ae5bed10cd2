"""From bytes to usage events: each element becomes an event or a rejection, and none harms another.

The one reader for Kafka, HTTP and files: what one of them takes, all take, and what is wrong is said in one way.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

import orjson
from pydantic import ValidationError

from schemas.dead_letters import Reason
from schemas.topics import BATCH_EVENTS_MAX
from schemas.usage_events import EVENT_MODELS, UsageMessage
from services.domain.faults import Fault
from services.domain.masking import mask_text
from services.domain.usage import Claim, EventType, UsageEvent
from services.domain.values import Value
from services.messages.core_events import to_event
from services.messages.good_events import good_event, is_plain
from services.messages.json_bytes import LEVELS_MAX, MalformedJsonError, TooDeep, decode
from services.runtime.trace_context import TRACEPARENT

FUTURE_MAX = timedelta(minutes=5)
RECORD_BYTES_MAX = 4 * 1024 * 1024
"""What is read of one record or request, uncompressed: 4 KB for each event of the largest batch. More is refused by its
length alone, for a broker's limit is on compressed bytes, and a few of them may stand for any number."""
OF_THE_WHOLE_RECORD = frozenset({Reason.MALFORMED_JSON, Reason.BATCH_TOO_LARGE})
"""Why nothing of a record or request can be read."""
_DETAIL_MAX = 300


class Rejection(NamedTuple):
    """Why an event is not taken, in one sentence that names the field and holds no key."""

    reason: StrEnum
    """A ``Reason``, but for what is refused before metering reads it."""
    detail: str
    faults: tuple[Fault, ...] = ()
    """The same, field by field."""

    @classmethod
    def of(cls, reason: StrEnum, *faults: Fault | str) -> Rejection:
        """What is said is masked and cut here, once for all. A fault without a field may be a string."""
        each = tuple(_masked(Fault("", fault) if isinstance(fault, str) else fault) for fault in faults)
        return cls(reason, mask_text("; ".join(map(str, each)))[:_DETAIL_MAX], each)


class RejectedError(Exception):
    """Carries a rejection out of the checks."""

    def __init__(self, reason: StrEnum, *faults: Fault | str) -> None:
        """As ``Rejection.of``."""
        self.rejection = Rejection.of(reason, *faults)
        super().__init__(self.rejection.detail)


def _masked(fault: Fault) -> Fault:
    return Fault(*(mask_text(text)[:_DETAIL_MAX] for text in fault))


class Rejected(NamedTuple):
    """An element that cannot be booked, its place in the record, and why."""

    source_index: int
    rejection: Rejection


class Accepted(Value, frozen=True):
    """An element that is a usage event."""

    source_index: int
    event: UsageEvent
    traceparent: object = None
    """What the event has as CloudEvents' extension of this name, whatever that is: no part of the event itself."""


Outcome = Accepted | Rejected


def read_record(value: bytes | None, now: datetime) -> list[Outcome]:
    """What a record holds; one that is unreadable, empty or too large is one event (docs/contract.md, section 6)."""
    if value is not None and len(value) > RECORD_BYTES_MAX:
        detail = f"the record has {len(value)} bytes, at most {RECORD_BYTES_MAX} are read"
        return [_rejected_record(Reason.BATCH_TOO_LARGE, detail)]
    try:
        held = decode(value)
    except MalformedJsonError as error:
        return [_rejected_record(Reason.MALFORMED_JSON, str(error))]
    plain = is_plain(value or b"")
    if not isinstance(held, list):
        return [_outcome(0, held, now, plain=plain)]
    if len(held) > BATCH_EVENTS_MAX:
        detail = f"the batch has {len(held)} events, at most {BATCH_EVENTS_MAX} are allowed"
        return [_rejected_record(Reason.BATCH_TOO_LARGE, detail)]
    if not held:
        return [_rejected_record(Reason.INVALID_EVENT, "the batch has no events")]
    return [_outcome(index, element, now, plain=plain) for index, element in enumerate(held)]


def _rejected_record(reason: Reason, detail: str) -> Rejected:
    return Rejected(0, Rejection.of(reason, detail))


def _outcome(index: int, element: Any, now: datetime, *, plain: bool) -> Outcome:
    good = good_event(element, plain=plain)
    if good is not None and good.occurred_at - now <= FUTURE_MAX:
        return Accepted(index, good, element.get(TRACEPARENT))
    try:
        event = read_event(element)
        require_not_ahead(event, now)
        return Accepted(index, event, element.get(TRACEPARENT))
    except RejectedError as error:
        return Rejected(index, error.rejection)


def read_event(raw: Any) -> UsageEvent:
    """One element that JSON was decoded to, whenever it happened. Raises RejectedError."""
    message = _message(raw)
    return to_event(message, message.time)


def require_not_ahead(event: UsageEvent, now: datetime) -> None:
    """Raise RejectedError ``time_in_future`` for what has not happened yet."""
    if event.occurred_at - now > FUTURE_MAX:
        raise RejectedError(
            Reason.TIME_IN_FUTURE, Fault("time", f"is more than {FUTURE_MAX.seconds // 60} minutes ahead")
        )


def no_object(raw: Any) -> RejectedError:
    """What is wrong with a value that is no JSON object."""
    deep = isinstance(raw, TooDeep)
    detail = f"is nested deeper than {LEVELS_MAX} levels" if deep else "an event must be a JSON object"
    return RejectedError(Reason.INVALID_EVENT, detail)


def _message(raw: Any) -> UsageMessage:
    if not isinstance(raw, dict):
        raise no_object(raw)
    event_type = raw.get("type")
    if not isinstance(event_type, str):
        raise RejectedError(Reason.INVALID_EVENT, Fault("type", "must be a string"))
    model = EVENT_MODELS.get(event_type)
    if model is None:
        raise RejectedError(Reason.UNSUPPORTED_TYPE, Fault("type", "is not an event type that is metered"))
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise RejectedError(Reason.INVALID_EVENT, *_faults_of(error)) from None


def _faults_of(error: ValidationError) -> list[Fault]:
    """Every field that is wrong and how, without what it held."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return [Fault(_place(problem["loc"]), _message_of(problem)) for problem in problems]


def _place(loc: tuple[int | str, ...]) -> str:
    # pydantic puts the tag of the claim's union into the path, where no field has that name.
    return ".".join(str(part) for index, part in enumerate(loc) if not (index == 2 and loc[1] == "credential"))


def _message_of(problem: Any) -> str:
    if problem["type"] == "union_tag_invalid":
        return "source: must be 'byok' or 'platform'"
    message: str = problem["msg"].removeprefix("Value error, ")
    return message


def known_fields(event: UsageEvent) -> bytes:
    """The event as JSON with the fields that are read and no others: read again, it is the same event."""
    data: dict[str, Any] = {name: value for name in _DATA_FIELDS if (value := getattr(event, name)) is not None}
    match event.type:
        case EventType.NODE_CALL:
            data["calls"] = event.calls
        case EventType.TOKEN_USAGE:
            data |= {name: getattr(event, name) for name in ("input_tokens", "cached_input_tokens", "output_tokens")}
        case EventType.TOKEN_USAGE_V2:
            data |= {"usage": dict(event.usage), "conditions": dict(event.conditions)}
            data |= {"usage_status": "partial" if event.is_partial else "final"}
        case EventType.TOOL_CALL:
            data |= {"calls": event.calls, "succeeded": event.succeeded}
        case EventType.WORKFLOW_RUN:
            pass
        case _:
            assert_never(event.type)
    if event.claim is not None:
        data["credential"] = _CLAIMED_PLATFORM if event.claim.is_platform else _claimed_key(event.claim)
    envelope = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type.value}
    return orjson.dumps(envelope | {"time": event.occurred_at.isoformat(), "data": data})


_DATA_FIELDS = (
    *("org_id", "user_id", "team_id", "run_id", "agent_id", "workflow_id", "parent_run_id", "node", "tool"),
    *("provider", "model", "provider_request_id", "provider_cost_usd"),
)
_CLAIMED_PLATFORM = {"source": "platform"}


def _claimed_key(claim: Claim) -> dict[str, str | None]:
    return {"source": "byok", "credential_id": claim.credential_id}
