"""A re-rater that is killed before any one of its statements: whoever comes next finishes what it began."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import Any

import psycopg
import pytest

from services.metering.rerating import rerater
from services.metering.rerating.rerater import Rerater
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, plan, publish, rerate
from tests.patience import PATIENCE_SECONDS

_EVENTS = 5
_OWN_KEY_MC, _PLATFORM_MC = 1_000_000, 20_000_000
# Progress, causes, fence, two chunks and a half with their revisions and totals, and the end.
_STATEMENTS_LEAST = 15


class Mortal(psycopg.Connection[Any]):
    """A connection whose process dies before a statement: nothing is said to the server any more, not even goodbye."""

    left: int

    def execute(self, *arguments: Any, **options: Any) -> Any:
        if self.left == 0:
            self.close()
            raise psycopg.OperationalError("killed")
        self.left -= 1
        return super().execute(*arguments, **options)


def _rerate_until_killed(ledger: Ledger, statements: int) -> bool:
    """Whether it came to its end before it had sent more than so many statements."""
    with closing(Mortal.connect(ledger.dsn, autocommit=True)) as connection:
        connection.left = statements
        try:
            Rerater(ledger.dsn).step(connection, threading.Event())
        except psycopg.OperationalError:
            return False
    return True


def test_what_a_killed_rerater_began_is_finished_by_the_next(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerater, "_CHUNK", 2)

    async def test() -> int:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), plan(3, "pro"))
        statements, finished = 0, False
        while not finished:
            # Someone else each time, whose key comes late.
            user = f"user-{statements:03}"
            events = [node_call(f"{user}-{number}", data={"user_id": user}) for number in range(_EVENTS)]
            await worker.book(publish(broker, topic, 0, *events))
            await worker.learn(key(4 + statements, (LONG_AGO, None), owner=user))
            finished = _rerate_until_killed(ledger, statements)
            assert set(_charged(ledger, user)) <= {_OWN_KEY_MC, _PLATFORM_MC}, "neither both nor nothing"
            rerate(ledger.dsn)
            assert _charged(ledger, user) == [_OWN_KEY_MC] * _EVENTS, f"killed before statement {statements + 1}"
            statements += 1
        await worker.stop()
        return statements

    users = asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
    assert users > _STATEMENTS_LEAST
    # Each event was corrected once, and counted once.
    rows = ledger.rows("SELECT kind, count(*) AS count FROM ledger.entry GROUP BY 1")
    assert {row["kind"]: row["count"] for row in rows} == dict.fromkeys(
        ("charge", "reversal", "correction"), users * _EVENTS
    )
    (totals,) = ledger.rows("SELECT sum(value) AS count FROM ledger.metric_total WHERE metric = 'corrections'")
    assert totals["count"] == users * _EVENTS


def _charged(ledger: Ledger, user: str) -> list[int]:
    """What each of the user's events costs."""
    query = "SELECT sum(charged_mc)::bigint AS mc FROM ledger.entry WHERE user_id = %s GROUP BY event_id"
    return [row["mc"] for row in ledger.rows(query, user)]
