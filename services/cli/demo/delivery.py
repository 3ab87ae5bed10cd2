"""How the events reach the topic: in batches, some twice, and now and then something that must be refused."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import orjson

from schemas.dead_letters import Reason
from schemas.topics import BATCH_EVENTS_MAX
from services.domain.usage import EventType, Identity, UsageEvent
from services.messages.usage_events import known_fields

_DUPLICATE_SHARE = 0.01
_EVENTS_PER_BAD_ONE = 150
# A redelivery or a conflict comes a good while after the first delivery.
_LATER_BY = 500


class Message(NamedTuple):
    """One thing to send. ``alone``: as a record of its own, because it is no event that a batch could hold."""

    org_id: str
    value: bytes
    alone: bool = False


class Expectation:
    """What must become of everything that was sent; the ledger is held against it."""

    def __init__(self) -> None:
        self.recorded: dict[Identity, UsageEvent] = {}
        self.duplicates = 0
        self.dead_letters: Counter[Reason] = Counter()

    @property
    def sent(self) -> int:
        """How many events were sent, counted as the ledger counts: an unreadable record is one."""
        return len(self.recorded) + self.duplicates + self.dead_letters.total()


def deliveries(events: list[UsageEvent], expectation: Expectation, *, seed: int) -> Iterator[Message]:
    """Everything to send, in order; ``expectation`` is filled on the way."""
    random = Random(seed)  # noqa: S311 - no secret
    recent: deque[UsageEvent] = deque(maxlen=_LATER_BY)
    bad = _bad_messages()
    for number, event in enumerate(events, start=1):
        yield _message(event)
        expectation.recorded[event.identity] = event
        if len(recent) == _LATER_BY and random.random() < _DUPLICATE_SHARE:
            yield _message(recent[0])
            expectation.duplicates += 1
        recent.append(event)
        if number > _LATER_BY and number % _EVENTS_PER_BAD_ONE == 0:
            reason, make = next(bad)
            yield make(recent[0], number)
            expectation.dead_letters[reason] += 1


def _message(event: UsageEvent) -> Message:
    return Message(event.org_id, known_fields(event))


_Maker = Callable[[UsageEvent, int], Message]


def _bad_messages() -> Iterator[tuple[Reason, _Maker]]:
    makers: list[tuple[Reason, _Maker]] = [
        (Reason.UNPRICED_MODEL, _unpriced_model),
        (Reason.UNPRICED_UNIT, _unpriced_unit),
        (Reason.UNPRICED_CONDITION, _unpriced_condition),
        (Reason.INVALID_EVENT, _negative_tokens),
        (Reason.IDENTITY_CONFLICT, _conflict),
        (Reason.MALFORMED_JSON, _cut_off),
        (Reason.UNSUPPORTED_TYPE, _unknown_type),
        (Reason.TIME_IN_FUTURE, _tomorrow),
        (Reason.NO_RATE_CARD, _before_every_card),
    ]
    yield (Reason.BATCH_TOO_LARGE, _too_large)
    while True:
        yield from makers


def _changed(event: UsageEvent, number: int, *, data: dict[str, Any] | None = None, **attributes: Any) -> Message:
    """A token usage with an identity of its own and something wrong with it."""
    good = UsageEvent(
        org_id=event.org_id,
        source="demo/runner",
        id=f"bad-{number}",
        type=EventType.TOKEN_USAGE,
        occurred_at=event.occurred_at,
        user_id=event.user_id,
        agent_id="support-agent",
        provider="openai",
        model="gpt-4o",
        input_tokens=10,
        output_tokens=10,
    )
    message = orjson.loads(known_fields(good))
    message |= attributes
    message["data"] |= data or {}
    return Message(event.org_id, orjson.dumps(message))


def _unpriced_model(event: UsageEvent, number: int) -> Message:
    return _changed(event, number, data={"model": "a-model-of-tomorrow"})


def _unpriced_unit(event: UsageEvent, number: int) -> Message:
    return _changed(event, number, type=EventType.TOKEN_USAGE_V2.value, data={"usage": {"input": 9, "hologram": 1}})


def _unpriced_condition(event: UsageEvent, number: int) -> Message:
    said = {"usage": {"input": 9}, "conditions": {"served_from": "orbit"}}
    return _changed(event, number, type=EventType.TOKEN_USAGE_V2.value, data=said)


def _negative_tokens(event: UsageEvent, number: int) -> Message:
    # Somebody pasted a key into a field of his own: it must not be kept.
    return _changed(event, number, data={"output_tokens": -5, "note": f"sk-proj-pasted-by-mistake-{number:06}"})


def _unknown_type(event: UsageEvent, number: int) -> Message:
    return _changed(event, number, type="usage.image.v1")


def _tomorrow(event: UsageEvent, number: int) -> Message:
    return _changed(event, number, time=(datetime.now(UTC) + timedelta(days=1)).isoformat())


def _before_every_card(event: UsageEvent, number: int) -> Message:
    return _changed(event, number, time="2025-12-24T18:00:00Z")


def _conflict(event: UsageEvent, _number: int) -> Message:
    """Another payload under the identity of an event that was sent before."""
    return _message(event._replace(occurred_at=event.occurred_at + timedelta(seconds=1)))


def _cut_off(event: UsageEvent, _number: int) -> Message:
    whole = _message(event)
    return whole._replace(value=whole.value[: len(whole.value) // 2], alone=True)


def _too_large(event: UsageEvent, _number: int) -> Message:
    element = _message(event).value
    return Message(event.org_id, b"[" + b",".join([element] * (BATCH_EVENTS_MAX + 1)) + b"]", alone=True)
