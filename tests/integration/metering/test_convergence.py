"""Invariant I5: whatever the order in which usage and registry changes arrive, the ledger comes to say the same."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.registry_changes import RegistryChange
from services.domain.directory import Directory
from services.domain.entries import attribution
from services.domain.rating import rate
from services.messages.registry_changes import to_change
from services.messages.usage_events import Accepted, read_record
from services.metering.rerating.rerater import Rerater
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import NOW, Worker, cards, key, node_call, plan, publish
from tests.patience import PATIENCE_SECONDS, wait_for

_START = datetime(2026, 10, 25, tzinfo=UTC)
_COLUMNS = ("key_source", "byok_scope", "credential_id", "reason", "rate_card", "tier")
_SUMS = ("list_mc", "charged_mc", "saved_mc", "quantity", "input_tokens", "cached_input_tokens", "output_tokens")


def _at(rng: random.Random) -> str:
    # Few different times, so that many events fall on the very boundary of an interval.
    return (_START + timedelta(hours=rng.randrange(0, 24 * 14, 6))).isoformat()


def _history(rng: random.Random) -> list[RegistryChange]:
    changes = cards()
    slots = [("organization", "acme"), ("team", "red"), ("personal", "ada"), ("personal", "bob")]
    for seq in range(3, 15):
        if rng.random() < 0.3:
            changes.append(plan(seq, rng.choice(["free", "pro", "enterprise"]), since=_at(rng)))
        else:
            scope, owner = rng.choice(slots)
            bounds = sorted({_at(rng) for _ in range(4)})
            pairs = list(zip(bounds[::2], [*bounds[1::2], None], strict=False))
            changes.append(key(seq, *pairs, scope=scope, owner=owner))
    return changes


def _events(rng: random.Random) -> list[dict[str, Any]]:
    claims = [None, None, None, {"source": "platform"}]
    claims += [{"source": "byok", "credential_id": f"key-of-{owner}"} for owner in ("acme", "red", "ada")]
    events = []
    for number in range(60):
        data = {"user_id": rng.choice(["ada", "bob"]), "team_id": rng.choice([None, "red"]), "calls": 1 + number % 3}
        grace = timedelta(seconds=rng.choice([0, 0, 1, 300, 301]))
        time = (datetime.fromisoformat(_at(rng)) + grace).isoformat()
        events.append(node_call(f"{number:02}", time=time, data=data | {"credential": rng.choice(claims)}))
    return events


@contextmanager
def _rerating(dsn: str) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=Rerater(dsn).run, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


async def _deliver(
    rng: random.Random, changes: list[RegistryChange], workers: list[Worker], batches: list[list[Any]]
) -> None:
    """Batches to one worker or the other, and changes to each at its own time, in a random order."""
    known = [2, 2]
    bookings: list[asyncio.Task[None]] = []
    while batches or min(known) < len(changes):
        which = rng.randrange(2)
        if batches and rng.random() < 0.5:
            bookings.append(asyncio.create_task(workers[which].book(batches.pop())))
            await asyncio.sleep(rng.choice([0, 0.01, 0.1]))
        elif known[which] < len(changes):
            upto = min(len(changes), known[which] + rng.randint(1, 3))
            await workers[which].learn(*changes[known[which] : upto])
            known[which] = upto
    await asyncio.gather(*bookings)


@pytest.mark.parametrize("seed", range(6))
def test_the_ledger_comes_to_say_what_full_knowledge_says(seed: int, ledger: Ledger, broker: str, topic: str) -> None:
    rng = random.Random(seed)  # noqa: S311 - a seed that repeats is what is wanted
    changes, events = _history(rng), _events(rng)
    records = [publish(broker, topic, side, *events[side::2]) for side in (0, 1)]
    batches = [part[at : at + 5] for part in records for at in range(0, len(part), 5)]
    rng.shuffle(batches)

    async def test() -> None:
        workers = [Worker(ledger.dsn, broker, topic) for _ in range(2)]
        for worker in workers:
            await worker.learn(*changes[:2])
        # These at least are booked before anything but the rate cards is known, however fast this machine is.
        for batch in batches[:3]:
            await workers[0].book(batch)
        del batches[:3]
        await _deliver(rng, changes, workers, batches)
        for worker in workers:
            await worker.stop()

    with _rerating(ledger.dsn):
        asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
        wait_for("the re-rater", lambda: ledger.rows("SELECT 1 FROM ledger.fence WHERE rerated_seq = %s", len(changes)))
    _assert_full_knowledge(ledger, changes, events)


def _assert_full_knowledge(ledger: Ledger, changes: list[RegistryChange], events: list[dict[str, Any]]) -> None:
    full = Directory()
    for change in changes:
        full.apply(change.seq, to_change(change))
    booked: dict[str, list[dict[str, Any]]] = {event["id"]: [] for event in events}
    for entry in ledger.entries():
        booked[entry["event_id"]].append(entry)
    corrected = 0
    for event in events:
        entries = booked[event["id"]]
        (outcome,) = read_record(json.dumps(event).encode(), NOW)
        assert isinstance(outcome, Accepted)
        should = attribution(rate(outcome.event, full))
        last = entries[-1]
        assert last["kind"] == ("charge" if len(entries) == 1 else "correction")
        assert {name: last[name] for name in _COLUMNS} == {name: getattr(should, name) for name in _COLUMNS}
        assert tuple(last["flags"]) == should.flags
        sums = {name: sum(entry[name] for entry in entries) for name in _SUMS}
        assert sums == {name: last[name] for name in _SUMS}
        assert (last["list_mc"], last["charged_mc"]) == tuple(should.amounts)
        revisions = len(entries) // 2
        expected = [0, *(revision for revision in range(1, revisions + 1) for _ in ("reversal", "correction"))]
        assert [entry["revision"] for entry in entries] == expected
        corrected += len(entries) > 1
    assert corrected, "nothing arrived late: this seed proves nothing"
