"""`byok verify` on a real ledger: right as it was booked and put right, and whatever a superuser alters is found."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import METRICS, Service
from schemas.registry_changes import RateCardChange
from schemas.topics import USAGE_EVENTS
from services.books.migrations import upgrade
from services.proof.entries import Difference
from services.proof.verify import verify
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.metering.feed import place
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, Worker, cards, key, node_call, plan, publish, rerate
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS
from tests.typed import typed

TOO_MUCH = "a" * 300
_numbers = itertools.count(1)


def byok(ledger: Ledger, *arguments: str, dsn: str | None = None) -> subprocess.CompletedProcess[str]:
    return typed("verify", *arguments, settings={"BYOK_LEDGER_DSN": dsn or ledger.dsn})


def verified(ledger: Ledger, *arguments: str) -> dict[str, Any]:
    done = byok(ledger, "--json", *arguments)
    assert done.returncode in {0, 1}, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if said["differences"] else 0)
    return said


def found_in(ledger: Ledger) -> list[Difference]:
    """What the command would list, without the time that a process of its own takes."""
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        return verify(connection).first


@pytest.fixture(scope="module")
def original(postgres: Database, broker: str) -> str:
    """The database of a ledger with charges, two late changes worked off, a flag, and every way to end."""
    name = "verified_original"
    postgres.create(name, "ledger_owner")
    ledger = Ledger(postgres, name)
    upgrade(ledger.owner_dsn)
    topic = USAGE_EVENTS._replace(name="usage-events-verified", partitions=2)
    create_topics(KafkaAccess(broker), [topic], replication_factor=1)

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic.name)
        await worker.learn(*cards())
        claim = {"data": {"credential": {"source": "byok", "credential_id": "no-such-key"}}}
        batch = [node_call("a"), node_call("b", **claim), node_call("a"), node_call("c") | {"id": ""}]
        records = publish(broker, topic.name, 0, batch, b"{", node_call("d", data={"model": "nope"}))
        bob = node_call("f", data={"user_id": "bob"})
        records += publish(broker, topic.name, 1, node_call("e"), {"type": TOO_MUCH}, bob)
        await worker.book(records)
        await worker.learn(plan(3, "pro"))
        rerate(ledger.dsn)
        await worker.book(publish(broker, topic.name, 0, node_call("g"), node_call("a", data={"calls": 2})))
        await worker.learn(key(4, (LONG_AGO, None)))
        rerate(ledger.dsn)
        place(ledger)
        await worker.book(publish(broker, topic.name, 1, node_call("h")))
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    return name


@pytest.fixture
def booked(original: str, postgres: Database) -> Ledger:
    """A copy of it that a test may spoil."""
    name = f"verified_{next(_numbers)}"
    postgres.create(name, "ledger_owner", template=original)
    return Ledger(postgres, name)


def test_a_card_of_an_earlier_release_with_places_that_nobody_knows_prices_as_ever(
    ledger: Ledger, broker: str, topic: str
) -> None:
    odd, *rest = (change for change in cards() if isinstance(change, RateCardChange))
    line = odd.body["models"]["anthropic"]["claude-sonnet-4-6"] | {"margin": 0.5}
    models = odd.body["models"] | {"anthropic": odd.body["models"]["anthropic"] | {"claude-sonnet-4-6": line}}
    odd = odd.model_copy(update={"body": odd.body | {"models": models, "notes": ["x"]}})

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(odd, *rest)
        await worker.book(publish(broker, topic, 0, node_call("a", time="2026-05-02T00:00:00Z"), node_call("b")))
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    assert [row["charged_mc"] for row in ledger.rows("SELECT charged_mc FROM ledger.entries")] == [20_000_000] * 2
    assert found_in(ledger) == []


def tamper(postgres: Database, ledger: Ledger, *statements: str) -> None:
    """What only a superuser can do, with triggers and foreign keys out of the way in its session."""
    with postgres.server.connect(ledger.dsn.rpartition("/")[2]) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0


def test_a_ledger_that_was_put_right_twice_has_no_difference(booked: Ledger) -> None:
    said = verified(booked)
    assert said["first"] == []
    assert (said["entries"], said["revised_events"], said["partitions"]) == (len(booked.entries()), 4 + 1, 2)
    assert (said["registry_seq"], said["rerated_seq"], said["unpriced"]) == (4, 4, 0)
    # All totals that there are: events, amounts, dead letters, flags and corrections.
    metrics = {row["metric"] for row in booked.rows("SELECT DISTINCT metric FROM ledger.metric_total")}
    assert metrics >= {"usage_events", "list_mc", "dead_letters", "credential_flags", "corrections", "corrected_mc"}


def test_it_says_so_in_words_and_reads_as_the_service(booked: Ledger) -> None:
    done = byok(booked)
    assert done.returncode == 0, done.stderr
    assert "0 differences" in done.stdout


_ONE = "event_id = 'a' AND revision = "
ALTERED = {
    "an amount": ("UPDATE ledger.entry SET charged_mc = 7, saved_mc = list_mc - 7 WHERE event_id = 'h'", "rating"),
    "attribution": ("UPDATE ledger.entry SET reason = 'team_key' WHERE event_id = 'h'", "rating"),
    "the event": ("UPDATE ledger.entry SET user_id = 'bob' WHERE event_id = 'h'", "rating"),
    "an id": ("UPDATE ledger.entry SET entry_id = gen_random_uuid() WHERE event_id = 'h'", "id"),
    "the id of a reversal": (
        f"UPDATE ledger.entry SET entry_id = gen_random_uuid() WHERE {_ONE} 1 AND kind = 'reversal'",
        "id",
    ),
    "a reversal gone": (f"DELETE FROM ledger.entry WHERE {_ONE} 1 AND kind = 'reversal'", "chain"),
    "a correction gone": (f"DELETE FROM ledger.entry WHERE {_ONE} 2 AND kind = 'correction'", "chain"),
    "a reversal that takes back less": (
        f"UPDATE ledger.entry SET charged_mc = -1, saved_mc = list_mc + 1 WHERE {_ONE} 1 AND kind = 'reversal'",
        "chain",
    ),
    "a revision gone, both entries": (f"DELETE FROM ledger.entry WHERE {_ONE} 2", "convergence"),
    "a change gone from the log": ("DELETE FROM ledger.registry_change WHERE seq = 3", "rating"),
    "a charge gone": ("DELETE FROM ledger.entry WHERE event_id = 'h'", "counts"),
    "a dead letter gone": ("DELETE FROM ledger.dead_letter WHERE reason = 'unpriced_model'", "counts"),
    "a range gone": ("DELETE FROM ledger.covered_range WHERE from_offset = 0 AND source_partition_id = 1", "offsets"),
    "a range wider": ("UPDATE ledger.covered_range SET to_offset = to_offset + 1 WHERE from_offset = 0", "offsets"),
    "progress moved": ("UPDATE ledger.source_partition SET next_offset = next_offset + 5", "offsets"),
    "a sum": ("UPDATE ledger.sum_by_day SET list_mc = list_mc + 1", "roll-ups"),
    "sums gone": ("DELETE FROM ledger.sum_by_user_hour", "roll-ups"),
    "a place gone": ("DELETE FROM ledger.entry_position WHERE position = 2", "feed"),
    "one that waits twice": ("UPDATE ledger.entry_batch SET entry_ids = entry_ids || entry_ids", "feed"),
    "a total": ("UPDATE ledger.metric_total SET value = value + 1 WHERE metric = 'charged_mc'", "totals"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_a_superuser_alters_is_found(booked: Ledger, postgres: Database, what: str) -> None:
    statement, check = ALTERED[what]
    tamper(postgres, booked, statement)
    assert check in {each.check for each in found_in(booked)}


def test_differences_are_listed_and_end_with_status_1(booked: Ledger, postgres: Database) -> None:
    tamper(postgres, booked, ALTERED["an amount"][0])
    done = byok(booked)
    assert done.returncode == 1
    assert "charged_mc is 7, must be 1000000" in done.stdout


def test_a_doubled_charge_is_found_where_no_index_forbids_it(booked: Ledger, postgres: Database) -> None:
    tamper(
        postgres,
        booked,
        "ALTER TABLE ledger.entry DROP CONSTRAINT entry_pkey CASCADE",
        "INSERT INTO ledger.entry SELECT * FROM ledger.entry WHERE event_id = 'h'",
    )
    found = {(each.check, each.detail) for each in found_in(booked)}
    assert ("chain", "revision 0 has its charge 2 times") in found
    assert "counts" in {check for check, _ in found}


def test_a_second_charge_under_a_foreign_id_is_named_whoever_put_it_there(booked: Ledger) -> None:
    (second,) = booked.rows(
        """INSERT INTO ledger.entry
           SELECT (jsonb_populate_record(e, jsonb_build_object('entry_id', gen_random_uuid()))).* FROM ledger.entry e
           WHERE event_id = 'h' RETURNING entry_id"""
    )
    found = found_in(booked)
    place = f"charge {second['entry_id']} of acme / s / h"
    assert [each.check for each in found if each.place == place] == ["id"]
    assert ("chain", "revision 0 has its charge 2 times") in {(each.check, each.detail) for each in found}


def test_conservation_and_one_organization_can_be_asked_for_alone(booked: Ledger, postgres: Database) -> None:
    tamper(postgres, booked, "UPDATE ledger.entry SET reason = 'team_key' WHERE event_id = 'h'")
    assert verified(booked, "--conservation")["differences"] == 0
    assert verified(booked, "--org", "acme")["differences"] == 1
    assert verified(booked, "--org", "another") | {"seconds": 0} == verified(booked, "--org", "another") | {
        "seconds": 0
    }
    assert verified(booked, "--org", "another")["entries"] == 0
    assert byok(booked, "--org", "acme", "--conservation").returncode == 2


def test_what_came_of_it_is_left_for_prometheus(booked: Ledger, postgres: Database, tmp_path: Path) -> None:
    file = tmp_path / "verify.prom"
    began = time.time()

    def told() -> dict[str, float]:
        page = text_string_to_metric_families(file.read_text())
        return {each.name: each.value for family in page for each in family.samples if each.labels == {"run": "full"}}

    assert byok(booked, "--textfile", str(file)).returncode == 0
    first = told()
    assert first.keys() == {metric.name for metric in METRICS if metric.shown_by == (Service.VERIFY,)}
    assert first["byok_verify_differences"] == 0
    assert began <= first["byok_verify_finished_timestamp_seconds"] <= time.time()
    # One that breaks off says nothing: what is left grows old.
    away = byok(booked, "--textfile", str(file), dsn="postgresql://nobody@127.0.0.1:1/ledger")
    assert (away.returncode, told()) == (3, first)
    tamper(postgres, booked, ALTERED["an amount"][0])
    assert byok(booked, "--textfile", str(file)).returncode == 1
    assert told()["byok_verify_differences"] > 0


@pytest.mark.parametrize(
    "arguments", [("--textfile", "there.txt"), ("--textfile", "no/there.prom"), ("--org", "a", "--textfile", "t.prom")]
)
def test_a_file_that_cannot_be_for_prometheus_is_refused_before_anything_is_read(
    ledger: Ledger, arguments: tuple[str, ...]
) -> None:
    assert byok(ledger, *arguments).returncode == 2


def test_a_database_that_is_away_is_no_difference(ledger: Ledger) -> None:
    done = byok(ledger, dsn="postgresql://nobody@127.0.0.1:1/ledger")
    assert (done.returncode, done.stdout) == (3, "")
    assert "is it running" in done.stderr


def test_what_was_booked_between_two_changes_that_undo_each_other_converges(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def book() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), plan(3, "pro"), key(4, (LONG_AGO, None)))
        rerate(ledger.dsn)
        await worker.learn(plan(5, "free"))
        await worker.book(publish(broker, topic, 0, node_call("a")))
        await worker.learn(plan(6, "pro"))
        rerate(ledger.dsn)
        await worker.stop()

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    assert found_in(ledger) == []


_RANGE = "UPDATE ledger.covered_range SET"
UNCONSERVED = {
    "a gap": (f"{_RANGE} to_offset = to_offset - 1 WHERE to_offset - from_offset > 1", "gap: no range covers"),
    "an overlap": (f"{_RANGE} from_offset = from_offset - 1 WHERE from_offset > 0", "are covered twice"),
    "a range deleted": ("DELETE FROM ledger.covered_range WHERE from_offset > 0", "gap: no range covers"),
    "a charge deleted": ("DELETE FROM ledger.entry WHERE event_id = 'h'", "1 events were recorded, 0 charges are"),
    "a dead letter deleted": ("DELETE FROM ledger.dead_letter WHERE reason = 'unpriced_model'", "dead letters were"),
}


@pytest.mark.parametrize("what", UNCONSERVED)
def test_conservation_alone_finds_each_hole_in_the_books(booked: Ledger, postgres: Database, what: str) -> None:
    statement, detail = UNCONSERVED[what]
    tamper(postgres, booked, statement)
    assert any(detail in each["detail"] for each in verified(booked, "--conservation")["first"])
