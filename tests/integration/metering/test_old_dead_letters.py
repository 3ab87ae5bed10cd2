"""Dead letters whose time is over are removed, counted, and told; what a replay needs is kept."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.metering.upkeep import old_letters
from services.metering.upkeep.covered_ranges import RangeMerger
from services.metering.upkeep.old_letters import remove
from services.proof.entries import Difference
from services.proof.verify import verify
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import Worker, cards, node_call, publish
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS

JUNK = 5


@pytest.fixture
def letters(ledger: Ledger, broker: str, topic: str) -> Ledger:
    """Junk, a conflict, and two events without a price, of which one is booked under another name of its model."""

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        unpriced = [node_call(event_id, data={"model": "nope"}) for event_id in ("healed", "waiting")]
        batch = [
            *unpriced,
            {"type": "usage.unheard_of.v1"},
            node_call("healed"),
            node_call("healed", data={"calls": 2}),
        ]
        await worker.book(publish(broker, topic, 0, batch, *[b"junk"] * JUNK))
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    return ledger


def _age(ledger: Ledger, days: int, *, relayed: bool = True) -> None:
    at = "now()" if relayed else "NULL"
    ledger.execute(
        "ALTER TABLE ledger.dead_letter DISABLE TRIGGER USER;"
        f"UPDATE ledger.dead_letter SET failed_at = now() - interval '{days} days', relayed_at = {at};"
        "ALTER TABLE ledger.dead_letter ENABLE TRIGGER USER"
    )


def _remove(ledger: Ledger, days: int = 90, replayable_days: int | None = None) -> int:
    with closing(connect(ledger.dsn, "test-upkeep", autocommit=True)) as connection:
        return remove(connection, days, replayable_days)


def _left(ledger: Ledger) -> list[tuple[str, str | None]]:
    return [(row["reason"], row["event_id"]) for row in ledger.rows("SELECT * FROM ledger.dead_letter ORDER BY 1")]


def _differences(ledger: Ledger) -> list[Difference]:
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        return verify(connection).first


UNPRICED, UNHEARD_OF = ("unpriced_model", "waiting"), ("unsupported_type", None)


def test_what_a_replay_would_book_is_kept_and_the_rest_is_removed_and_counted(letters: Ledger) -> None:
    _age(letters, 91)
    assert _remove(letters) == JUNK + 2
    assert _left(letters) == [UNPRICED, UNHEARD_OF]
    assert _remove(letters) == 0
    (removal,) = letters.rows("SELECT * FROM ledger.dead_letter_removal")
    assert (removal["letters"], removal["replayable_before"]) == (JUNK + 2, None)
    assert datetime.now(UTC) - removal["failed_before"] < timedelta(days=91)
    totals = letters.rows("SELECT labels, value FROM ledger.metric_total WHERE metric = 'removed_dead_letters'")
    assert {row["labels"]["reason"]: row["value"] for row in totals} == {
        "malformed_json": JUNK,
        "identity_conflict": 1,
        "unpriced_model": 1,
    }
    assert _differences(letters) == []


def test_in_parts_and_with_merged_ranges_conservation_still_holds(
    letters: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_letters, "LETTERS_MAX", 2)
    monkeypatch.setattr("services.metering.upkeep.covered_ranges._RANGES_MIN", 2)
    _age(letters, 400)
    rounds = []
    while removed := _remove(letters, replayable_days=365):
        rounds.append(removed)
        with closing(connect(letters.dsn, "test-upkeep", autocommit=True)) as connection:
            RangeMerger(0).step(connection)
        assert _differences(letters) == []
    assert sum(rounds) == JUNK + 4
    assert max(rounds) == 2
    assert _left(letters) == []


def test_what_its_topic_does_not_have_yet_is_kept(letters: Ledger) -> None:
    _age(letters, 400, relayed=False)
    assert _remove(letters, replayable_days=90) == 0


def test_what_is_younger_is_kept(letters: Ledger) -> None:
    _age(letters, 89)
    assert _remove(letters, replayable_days=30) == 0


def test_nothing_is_kept_for_less_than_a_month(letters: Ledger) -> None:
    _age(letters, 29)
    for days, replayable_days in ((29, None), (0, None)):
        with pytest.raises(psycopg.errors.CheckViolation, match="30 days at least"):
            _remove(letters, days, replayable_days)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger.dead_letter WHERE event_id = 'waiting'",
        "UPDATE ledger.removed_dead_letter SET letters = letters + 1",
        "DELETE FROM ledger.removed_dead_letter",
    ],
)
def test_what_is_altered_afterwards_is_found(letters: Ledger, postgres: Database, statement: str) -> None:
    _age(letters, 400)
    _remove(letters)
    assert _differences(letters) == []
    _tamper(postgres, letters, statement)
    assert {"counts", "totals"} <= {each.check for each in _differences(letters)}


def _tamper(postgres: Database, ledger: Ledger, statement: str) -> None:
    with postgres.server.connect(ledger.dsn.rpartition("/")[2]) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute(statement)


def test_neither_removals_nor_their_counts_can_be_changed(letters: Ledger) -> None:
    _age(letters, 400)
    _remove(letters)
    rows: list[Any] = letters.rows("SELECT * FROM ledger.removed_dead_letter")
    assert rows
    for statement in ("DELETE FROM ledger.removed_dead_letter", "UPDATE ledger.dead_letter_removal SET letters = 1"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            letters.execute(statement)
