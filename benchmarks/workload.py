"""What the benchmarks send: made-up usage of many organizations, half of it token usage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from psycopg import Connection

from schemas.topics import USAGE_EVENTS
from services.cli.usage.sender import BatchSender
from services.local.stack import Stack
from services.runtime.broker import kafka_producer
from services.runtime.kafka_access import KafkaAccess

SINCE = {"effective_from": "2026-05-01T00:00:00Z"}
"""What backdates a plan or a key to before all of the usage."""

# Yesterday, so that no event lies in the future whenever this runs.
_START = datetime.now(UTC) - timedelta(days=1)
_MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-6"), ("mistral", "mistral-large-3"))


def event(org_id: str, number: int, *, by_unit: bool = False) -> dict[str, Any]:
    """The ``number``-th event: a third of all with each provider, of which one takes no own keys.

    ``by_unit``: tokens are counted by unit, with the same numbers and prices.
    """
    provider, model = _MODELS[number % len(_MODELS)]
    data: dict[str, Any] = {
        "org_id": org_id,
        "user_id": "user",
        "team_id": "team",
        "provider": provider,
        "model": model,
    }
    if number % 2:
        kind, data["node"] = "usage.node_call.v1", "ask_ai"
    else:
        kind, data["agent_id"] = "usage.token_usage.v1", "agent"
        data |= {"input_tokens": 1_000 + number % 5_000, "cached_input_tokens": 500, "output_tokens": number % 700}
    if by_unit and not number % 2:
        tokens = (data.pop(f"{name}_tokens") for name in ("input", "cached_input", "output"))
        data["usage"] = dict(zip(("input", "cache_read", "output"), tokens, strict=True))
        kind = "usage.token_usage.v2"
    at = _START + timedelta(milliseconds=number)
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "bench",
        "type": kind,
        "time": at.isoformat(),
        "data": data,
    }


def publish(stack: Stack, events: Iterable[dict[str, Any]], batch: int) -> None:
    """Send events to the stack's broker, ``batch`` to a record, and wait until it has them all."""
    with sending(stack.endpoints.kafka, batch) as send:
        send(events)


@contextmanager
def sending(kafka: str, batch: int) -> Iterator[Callable[[Iterable[dict[str, Any]]], None]]:
    """What sends events to a broker, ``batch`` to a record, and waits until it has them all; any number of times."""
    producer = kafka_producer(KafkaAccess(kafka), "byok-bench", USAGE_EVENTS.name, timeout_seconds=30)
    sender = BatchSender(producer, batch, timeout_seconds=30)

    def send(events: Iterable[dict[str, Any]]) -> None:
        for each in events:
            sender.add(each["data"]["org_id"], orjson.dumps(each))
        sender.finish()

    try:
        yield send
    finally:
        producer.close()


def booked(ledger: Connection[Any]) -> int:
    """How many events the ledger has dealt with."""
    (events,) = ledger.execute("SELECT coalesce(sum(events), 0)::bigint FROM ledger.covered_range").fetchone() or (0,)
    return int(events)


def worked_off(ledger: Connection[Any]) -> int:
    """Up to which change of the registry everything is corrected."""
    (seq,) = ledger.execute("SELECT rerated_seq FROM ledger.fence").fetchone() or (0,)
    return int(seq)


def wait_until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Wait for something; SystemExit, which says for what, where it does not come in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.1)
