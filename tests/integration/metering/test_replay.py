"""A replay of the topic into a shadow ledger: the same digest, and whatever was done to the real ledger is found."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from schemas.topics import USAGE_EVENTS
from services.books.migrations import upgrade
from services.proof.replay.comparison import CONFLICT, GONE, REFUSED_THEN
from services.proof.replay.run import Log, Replay, replay
from services.proof.replay.shadow import shadow_ledger
from services.proof.verify import Report
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, NOW, Worker, cards, key, node_call, plan, publish, rerate
from tests.integration.real_parts import Database
from tests.kafka.raw_batches import batch as raw_batch
from tests.kafka.raw_batches import changed, produce_bytes
from tests.patience import PATIENCE_SECONDS

TOPIC = USAGE_EVENTS._replace(name="usage-events-replayed", partitions=2)
TOO_EARLY = (NOW + timedelta(days=1)).isoformat()
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def original(postgres: Database, broker: str) -> str:
    """A ledger with late changes worked off, duplicates in and across partitions, batches, refusals, broken bytes."""
    name = "replayed_original"
    postgres.create(name, "ledger_owner")
    ledger = Ledger(postgres, name)
    upgrade(ledger.owner_dsn)
    create_topics(KafkaAccess(broker), [TOPIC], replication_factor=1)

    async def book() -> None:
        worker = Worker(ledger.dsn, broker, TOPIC.name)
        await worker.learn(*cards())
        batch = [node_call("a"), node_call("b"), node_call("a"), node_call("c") | {"id": ""}]
        late = node_call("later", time=TOO_EARLY)
        await worker.book(publish(broker, TOPIC.name, 0, batch, b"{", node_call("d", data={"model": "nope"}), late))
        # Partition 1 was booked before partition 0 got the other payload; a replay may meet them the other way round.
        await worker.book(publish(broker, TOPIC.name, 1, node_call("e"), node_call("a"), node_call("twice")))
        await worker.book(publish(broker, TOPIC.name, 0, node_call("twice", data={"calls": 2}), node_call("é/x")))
        await worker.learn(plan(3, "pro"))
        rerate(ledger.dsn)
        await worker.learn(key(4, (LONG_AGO, None)))
        broken = changed(raw_batch([b"nobody", b"can read"]), crc=1)
        await asyncio.to_thread(produce_bytes, broker, TOPIC.name, 1, broken)
        await worker.book(publish(broker, TOPIC.name, 1, node_call("h"), node_call("a", data={"calls": 9})))
        rerate(ledger.dsn)
        await worker.stop()
        publish(broker, TOPIC.name, 1, node_call("not booked yet"))

    asyncio.run(asyncio.wait_for(book(), PATIENCE_SECONDS))
    return name


@pytest.fixture
def booked(original: str, postgres: Database) -> Ledger:
    """A copy of it that a test may spoil."""
    name = f"replayed_{next(_numbers)}"
    postgres.create(name, "ledger_owner", template=original)
    return Ledger(postgres, name)


def replayed(
    ledger: Ledger,
    broker: str,
    *,
    shadow_dsn: str | None = None,
    cluster_id: str = "cluster-1",
    report: Report = lambda _what, _done, _all: None,
) -> Replay:
    log = Log(KafkaAccess(broker), cluster_id, TOPIC.name, silent_seconds=20)
    return replay(
        ledger.dsn,
        shadow_dsn or ledger.replayer_dsn,
        log,
        clock=lambda: NOW + timedelta(days=2),
        events_max=3,
        report=report,
    )


def databases(postgres: Database) -> set[str]:
    with postgres.server.connect() as admin:
        return {name for (name,) in admin.execute("SELECT datname FROM pg_database")}


def encode_template(postgres: Database, encoding: str) -> None:
    """As if the server had been made with it."""
    with postgres.server.connect() as admin:
        admin.execute(
            "UPDATE pg_database SET encoding = pg_char_to_encoding(%s) WHERE datname = 'template0'", (encoding,)
        )


def tamper(postgres: Database, ledger: Ledger, statement: str) -> None:
    """What only a superuser can do, with triggers and foreign keys out of the way."""
    with postgres.server.connect(ledger.dsn.rpartition("/")[2]) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(statement).rowcount != 0


def test_the_topic_books_to_the_same_digest(booked: Ledger, broker: str, postgres: Database) -> None:
    before, entries = databases(postgres), booked.entries()
    assert {entry["revision"] for entry in entries} == {0, 1, 2}
    found = replayed(booked, broker)
    compared = found.comparison
    assert compared.first == []
    assert compared.ledger.digest == compared.replay.digest
    assert compared.ledger.sums == compared.replay.sums
    reasons = compared.not_compared
    assert reasons[f"{REFUSED_THEN} (time_in_future)"] == 1
    # Which of two payloads comes first depends on the order of the partitions, in the replay as it did then.
    assert set(reasons) <= {f"{REFUSED_THEN} (time_in_future)", CONFLICT}
    assert compared.ledger.identities + reasons[CONFLICT] == len({entry["event_id"] for entry in entries})
    assert found.offsets_beyond == 1
    assert databases(postgres) == before
    assert booked.entries() == entries


_INVENTED = """
INSERT INTO ledger.entry SELECT (jsonb_populate_record(e, jsonb_build_object(
  'event_id', 'invented', 'entry_id', gen_random_uuid()))).* FROM ledger.entry e WHERE event_id = 'h'
"""
DAMAGE = {
    "an amount": (
        "UPDATE ledger.entry SET charged_mc = charged_mc + 1, saved_mc = saved_mc - 1 WHERE event_id = 'h'",
        "charged_mc is",
    ),
    "a quantity": ("UPDATE ledger.entry SET quantity = 7 WHERE event_id = 'h'", "quantity is 7, the replay makes it 1"),
    "attribution": ("UPDATE ledger.entry SET reason = 'team_key' WHERE event_id = 'h'", "reason is team_key"),
    "a payload": ("UPDATE ledger.entry SET payload_hash = sha256('x') WHERE event_id = 'h'", "payload_hash is"),
    "a charge gone": ("DELETE FROM ledger.entry WHERE event_id = 'h'", "the ledger has no entry of it"),
    "a correction gone": (
        "DELETE FROM ledger.entry WHERE event_id = 'a' AND revision = 2 AND kind = 'correction'",
        "list_mc is 0, the replay makes it 20000000",
    ),
    "a revision gone": ("DELETE FROM ledger.entry WHERE event_id = 'a' AND revision = 2", "key_source is platform"),
    "an entry invented": (_INVENTED, "but a replay books none"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(booked: Ledger, broker: str, postgres: Database, what: str) -> None:
    statement, detail = DAMAGE[what]
    tamper(postgres, booked, statement)
    compared = replayed(booked, broker).comparison
    assert [detail in each.detail for each in compared.first] == [True], compared.first
    assert compared.ledger.digest != compared.replay.digest


def test_entries_of_another_cluster_are_counted_and_not_compared(
    booked: Ledger, broker: str, postgres: Database
) -> None:
    tamper(postgres, booked, "UPDATE ledger.source_partition SET cluster_id = 'old' WHERE partition = 0")
    compared = replayed(booked, broker).comparison
    assert compared.first == []
    # "b" and "é/x"; "a" came once more through partition 1, and so is compared.
    assert compared.not_compared == Counter({GONE: 2})


def test_a_cluster_of_which_nothing_is_booked_is_refused(booked: Ledger, broker: str, postgres: Database) -> None:
    before = databases(postgres)
    with pytest.raises(CommandFailed, match=r"nothing of .* in the cluster another .* knows cluster-1"):
        replayed(booked, broker, cluster_id="another")
    assert databases(postgres) == before


def test_a_topic_that_holds_nothing_of_what_is_booked_is_refused(
    booked: Ledger, broker: str, postgres: Database
) -> None:
    tamper(postgres, booked, "UPDATE ledger.source_partition SET cluster_id = 'old'")
    tamper(
        postgres,
        booked,
        "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
        f" VALUES ('cluster-1', '{TOPIC.name}', 0, 0, 0)",
    )
    with pytest.raises(CommandFailed, match="nothing was compared: 6 identities, only in the ledger"):
        replayed(booked, broker)


def test_changes_that_are_not_worked_off_are_no_differences(
    booked: Ledger, broker: str, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.proof.replay.run._REST_SECONDS", 0.1)
    tamper(postgres, booked, "UPDATE ledger.fence SET rerated_seq = 3")
    with pytest.raises(CommandFailed, match="worked off up to 3 of 4"):
        replayed(booked, broker)


def test_an_empty_database_serves_where_none_may_be_created(booked: Ledger, broker: str, postgres: Database) -> None:
    name = f"empty_{next(_numbers)}"
    postgres.create(name, "registry_owner")
    own = postgres.dsn("registry_owner", name)
    assert replayed(booked, broker, shadow_dsn=own).comparison.differences == 0
    with postgres.server.connect(name) as admin:
        left: list[Any] = admin.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'ledger'").fetchall()
    assert left == []


def test_a_database_with_a_ledger_is_never_taken_for_the_shadow(booked: Ledger, postgres: Database) -> None:
    with pytest.raises(CommandFailed, match="holds a ledger already"), shadow_ledger(booked.dsn):
        pass
    assert booked.entries()


def test_a_shadow_that_goes_away_ends_the_replay(booked: Ledger, broker: str, postgres: Database) -> None:
    before = databases(postgres)

    def take_away(_what: str, _done: int, _all: int | None) -> None:
        (shadow,) = databases(postgres) - before
        with postgres.server.connect() as admin:
            admin.execute(f"ALTER DATABASE {shadow} ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (shadow,))

    # In a thread, for what must not happen is that it waits.
    ended: Future[Replay] = Future()

    def run() -> None:
        try:
            ended.set_result(replayed(booked, broker, report=take_away))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    with pytest.raises(CommandFailed, match="shadow") as refused:
        ended.result(timeout=PATIENCE_SECONDS)
    assert refused.value.status == AWAY
    assert databases(postgres) == before


def test_a_shadow_holds_every_text_whatever_the_server_encodes_in(postgres: Database) -> None:
    # LATIN1, in which a server of an earlier time may have been made.
    encode_template(postgres, "LATIN1")
    try:
        with shadow_ledger(postgres.dsn("ledger_replay", "postgres")) as shadow, psycopg.connect(shadow) as connection:
            assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    finally:
        encode_template(postgres, "UTF8")


def test_a_shadow_that_cannot_be_dropped_hides_no_reason(postgres: Database) -> None:
    before = databases(postgres)

    def refuse_without_a_server() -> None:
        with shadow_ledger(postgres.dsn("ledger_replay", "postgres")):
            postgres.disconnect_all("ledger_replay")
            raise CommandFailed("the reason")

    with pytest.raises(CommandFailed, match="the reason"):
        refuse_without_a_server()
    (left,) = databases(postgres) - before
    with postgres.server.connect() as admin:
        admin.execute(f"DROP DATABASE {left}")
