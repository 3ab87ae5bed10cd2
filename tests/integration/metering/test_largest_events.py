"""The largest events that the contract allows are booked, and what they add up to has no limit."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.domain.directory import Directory
from services.domain.usage import CALLS_MAX, TOKENS_MAX
from services.key_registry.rate_cards import packaged_cards
from services.messages.registry_changes import to_change
from services.metering.booking.ledger_writer import LedgerWriter
from services.metering.booking.pricing import Covered, Record, price_batch, read_elements
from services.proof.verify import verify
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import NOW, Worker, cards, node_call, publish
from tests.patience import PATIENCE_SECONDS

BIGINT_MAX = 2**63 - 1
_MODELS = [(provider, model) for provider, models in packaged_cards()[1].body["models"].items() for model in models]


def _largest(event_id: str, event_type: str = "usage.token_usage.v1", **data: Any) -> dict[str, Any]:
    tokens = {"input_tokens": TOKENS_MAX, "output_tokens": TOKENS_MAX}
    return node_call(event_id, type=event_type, data={"agent_id": "a"} | tokens | data)


def _assert_books_balance(ledger: Ledger) -> None:
    with psycopg.connect(ledger.owner_dsn) as connection:
        found = verify(connection)
    assert (found.differences, found.first) == (0, [])


def test_customers_may_use_more_than_fits_into_64_bits(ledger: Ledger, broker: str, topic: str) -> None:
    events, batch = 7_000, 1_000

    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        dear = [_largest(f"{number:04}", provider="openai", model="o1-pro") for number in range(events)]
        batches = [dear[start : start + batch] for start in range(0, events, batch)]
        await worker.book(publish(broker, topic, 0, *batches))
        assert sum(booked.recorded for booked in worker.booked) == events
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    totals = ledger.rows("SELECT metric, value FROM ledger.metric_total WHERE metric LIKE '%%_mc' ORDER BY metric")
    # 150 USD for a million of input, 600 for one of output, at 0.005 USD per credit: 1.5 * 10^9 credits each.
    sums = {row["metric"]: int(row["value"]) for row in totals}
    assert sums == {"charged_mc": events * 1_500 * 10**12, "list_mc": events * 1_500 * 10**12}
    assert sums["list_mc"] > BIGINT_MAX
    _assert_books_balance(ledger)


def _ids(longest: int) -> st.SearchStrategy[str]:
    """As long as an id may be, of letters that take one to four bytes, and some that mean something to SQL or JSON."""
    return st.sampled_from(["x", "é", "€", "𝄞", '"', "\\", "{", "'", ",", "%"]).map(
        lambda letter: letter * (longest // len(letter.encode()))
    )


@st.composite
def _largest_events(draw: st.DrawFn) -> dict[str, Any]:
    provider, model = draw(st.sampled_from(_MODELS))
    data = {"org_id": draw(_ids(128)), "user_id": draw(_ids(128)), "team_id": draw(st.none() | _ids(128))}
    tokens = {"input_tokens": TOKENS_MAX, "output_tokens": TOKENS_MAX, "agent_id": draw(_ids(128))}
    tokens["cached_input_tokens"] = draw(st.sampled_from([0, TOKENS_MAX]))
    kinds: dict[str, dict[str, Any]] = {
        "usage.node_call.v1": {"node": draw(_ids(128)), "provider": provider, "model": model, "calls": CALLS_MAX},
        "usage.token_usage.v1": {"provider": provider, "model": model} | tokens,
        "usage.token_usage.v2": {
            "provider": provider,
            "model": model,
            "agent_id": draw(_ids(128)),
            "usage": {"input": TOKENS_MAX, "cache_read": tokens["cached_input_tokens"], "output": TOKENS_MAX},
            "provider_request_id": draw(_ids(256)),
            "provider_cost_usd": "999999999999.999999999999999999",
        },
        "usage.tool_call.v1": {"tool": draw(_ids(128)), "calls": CALLS_MAX},
        "usage.workflow_run.v1": {"workflow_id": draw(_ids(128)), "run_id": draw(_ids(128))},
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    event = {"specversion": "1.0", "id": draw(_ids(246)), "source": draw(_ids(256)), "type": kind}
    return event | {"time": "2026-11-10T00:00:00Z", "data": data | kinds[kind]}


# A unit is the whole transaction, with a server: few of them, each with many events.
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(events=st.lists(_largest_events(), min_size=1, max_size=20))
def test_the_largest_events_of_every_type_are_booked(ledger: Ledger, events: Sequence[dict[str, Any]]) -> None:
    number = next(_numbers)
    told_apart = [event | {"id": f"{number:06}{place:04}{event['id']}"} for place, event in enumerate(events)]
    directory = Directory()
    for change in cards():
        directory.apply(change.seq, to_change(change))
    # Each example is the only record of a cluster of its own.
    writer = LedgerWriter(ledger.dsn, f"cluster-{number}", "usage-events")
    with closing(writer):
        writer.begin({0: 0})
        writer.positions([0])
        read = read_elements(Record(0, 0, b"k", json.dumps(told_apart).encode(), 0.0), NOW)
        booked = writer.book(price_batch([Covered(0, 0, 1)], [read], directory))
    assert booked[:3] == (len(events), 0, 0)


_numbers = itertools.count()
