"""The relay: the whole log in order, through outages, onto new clusters, by one of several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from prometheus_client import generate_latest
from pydantic import SecretStr

from schemas.topics import REGISTRY_CHANGES
from services.domain.permissions import Caller
from services.domain.scope import Plan, Scope, ScopeType
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.credentials import NewCredential, add_credential, revoke_credential
from services.key_registry.handlers.plans import set_plan
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.log.relay import OutboxRelay, republish
from services.key_registry.log.sender import SEND_BYTES_MAX, ChangeSender, UnsentChange
from services.key_registry.metrics import registry_metrics
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.settings import RegistrySettings
from services.runtime.background import in_background
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.key_registry.proxied_broker import ProxiedBroker, free_port
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.topic_reader import everything

SERVICE = Caller("service", "*", None, {}, frozenset({"credentials:write", "plans:write"}))
PENDING = (
    "SELECT h.last_seq - c.sent_seq FROM registry.log_head h, registry.relay_cursor c WHERE c.cluster_id IS NOT NULL"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProxiedBroker]:
    broker = ProxiedBroker(tmp_path)
    try:
        broker.start_new()
        yield broker
    finally:
        broker.close()


class World:
    """A registry with a log of its own, and relays of it."""

    def __init__(self, database: Any, kek_file: Path, settings: RegistrySettings) -> None:
        self.database, self.settings = database, settings
        self.engine = open_engine(database.dsn)
        self.registry = Registry(sessions_on(self.engine), load_keyring(kek_file))
        set_plan(self.registry, SERVICE, "acme", Plan.PRO)

    def change(self, number: int) -> None:
        """Add a key and revoke it: two changes."""
        scope = Scope(ScopeType.TEAM, f"team-{number}")
        new = NewCredential("acme", scope, "openai", SecretStr(f"sk-made-up-for-test-{number}"))
        revoke_credential(self.registry, SERVICE, add_credential(self.registry, SERVICE, new).credential_id)

    def log(self) -> list[tuple[str, bytes]]:
        """The log in the database, as records."""
        return self.database.rows("SELECT key, payload FROM registry.log ORDER BY seq")

    def all_sent(self) -> bool:
        return self.database.rows(PENDING) == [(0,)]

    @contextmanager
    def relay(self) -> Iterator[OutboxRelay]:
        relay = OutboxRelay(self.settings)
        with in_background("relay", relay.run, stop_seconds=PATIENCE_SECONDS):
            yield relay


@pytest.fixture
def world(
    new_database: Callable[[], Any],
    kek_file: Path,
    broker: ProxiedBroker,
    settings_for: Callable[..., RegistrySettings],
) -> Iterator[World]:
    database = new_database()
    settings = settings_for(
        database, kafka_bootstrap=broker.bootstrap, kafka_timeout_seconds=2, outbox_interval_seconds=0.01
    )
    world = World(database, kek_file, settings)
    # The packaged cards are long: what fits into one send is put to the test as well.
    for document in packaged_cards():
        publish_rate_card(world.registry.sessions, document)
    for number in range(10):
        world.change(number)
    yield world
    world.engine.dispose()


def without_repeats(records: list[tuple[str, bytes]], log: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """What a follower takes in, which ignores every change that is not newer than what it has."""
    place = {change: number for number, change in enumerate(log)}
    taken: list[tuple[str, bytes]] = []
    for record in records:
        if place[record] >= len(taken):
            assert place[record] == len(taken), "a change was overtaken"
            taken.append(record)
    return taken


def test_the_log_arrives_in_order_and_in_the_same_bytes(world: World, broker: ProxiedBroker) -> None:
    with world.relay() as relay:
        assert relay.unready() is not None
        wait_for("the relay is ready", lambda: relay.unready() is None)
        assert world.all_sent()
        assert broker.records(len(world.log())) == world.log()
        world.change(99)
        wait_for("the new changes are sent", world.all_sent)
        assert broker.records(len(world.log())) == world.log()


def test_the_age_of_the_outbox_is_that_of_what_waits(world: World, broker: ProxiedBroker) -> None:
    def oldest() -> float:
        # A collector of its own: another would remember for a second what it has read.
        page = generate_latest(registry_metrics(world.registry.sessions)).decode()
        (line,) = [line for line in page.splitlines() if line.startswith("byok_outbox_oldest_seconds{")]
        return float(line.split()[-1])

    wait_for("something waits", lambda: oldest() > 0)
    with world.relay():
        wait_for("everything is sent", world.all_sent)
        assert oldest() == 0


@pytest.mark.slow
def test_an_outage_of_the_broker_leaves_no_hole(world: World, broker: ProxiedBroker) -> None:
    with world.relay() as relay:
        for turn in range(3):
            wait_for("everything is sent", world.all_sent)
            broker.away()
            world.change(100 + turn)
            # Longer than a send may take: the relay gives up this producer and begins again.
            wait_for("the relay notices", lambda: relay.unready() is None and not relay.leads)
            world.change(200 + turn)
            broker.back()
        wait_for("everything is sent after the outages", world.all_sent)
    records = broker.records(len(world.log()))
    assert without_repeats(records, world.log()) == world.log()


@pytest.mark.slow
def test_a_broker_that_comes_and_goes_while_much_is_sent(world: World, broker: ProxiedBroker) -> None:
    with world.relay():
        for turn in range(8):
            world.change(300 + turn)
            broker.away()
            broker.back()
        wait_for("everything is sent", world.all_sent)
    records = broker.records(len(world.log()))
    assert without_repeats(records, world.log()) == world.log()


@pytest.mark.slow
def test_a_new_cluster_gets_the_whole_log_in_the_same_bytes(world: World, broker: ProxiedBroker) -> None:
    with world.relay():
        wait_for("the first cluster has it", world.all_sent)
        first = broker.records(len(world.log()))
    broker.start_new()
    with world.relay() as relay:
        wait_for("the relay is ready", lambda: relay.unready() is None)
        assert broker.records(len(first)) == first == world.log()
        # Also one that takes the other's place while nothing is to be sent.
        broker.start_new()
        assert broker.records(len(first)) == first


@pytest.mark.slow
def test_republishing_sends_the_whole_log_again(world: World, broker: ProxiedBroker) -> None:
    with world.relay():
        wait_for("everything is sent", world.all_sent)
        assert republish(world.settings.registry_dsn.get_secret_value()) == len(world.log())
        assert broker.records(2 * len(world.log())) == world.log() * 2


@pytest.mark.slow
def test_one_relay_works_and_another_takes_over(world: World, broker: ProxiedBroker) -> None:
    with ExitStack() as first_runs, ExitStack() as second_runs:
        first, second = first_runs.enter_context(world.relay()), second_runs.enter_context(world.relay())
        wait_for("both know that all is sent", lambda: first.unready() is None and second.unready() is None)
        assert first.leads != second.leads
        leader_runs, other = (first_runs, second) if first.leads else (second_runs, first)
        leader_runs.close()
        wait_for("the other takes over", lambda: other.leads)
        world.change(400)
        wait_for("the other sends", world.all_sent)
    assert broker.records(len(world.log())) == world.log()


@pytest.mark.slow
def test_a_lost_session_is_replaced(world: World, broker: ProxiedBroker, postgres: Any) -> None:
    with world.relay():
        wait_for("everything is sent", world.all_sent)
        server, _ = postgres
        with server.connect() as admin:
            relays = "FROM pg_stat_activity WHERE application_name = 'byok-key-registry-relay'"
            admin.execute(f"SELECT pg_terminate_backend(pid) {relays}")
        world.change(500)
        wait_for("everything is sent by a new session", world.all_sent)
    assert without_repeats(broker.records(len(world.log())), world.log()) == world.log()


def latest(records: list[tuple[str, bytes]]) -> dict[str, bytes]:
    """What compaction leaves of a topic."""
    return dict(records)


@pytest.mark.parametrize("busy", [False, True], ids=["while nothing is sent", "while more is sent"])
@pytest.mark.slow
def test_what_a_relay_sends_late_after_newer_ones_went_on_is_put_right(
    world: World, broker: ProxiedBroker, busy: bool
) -> None:
    """A relay that was stopped in the middle of a send loses its lock, and when it goes on, the send goes out."""
    rows = world.database.rows("SELECT seq, key, payload FROM registry.log ORDER BY seq")
    # The last of them adds a key that was revoked since.
    caught = [UnsentChange(*row) for row in rows[2:8]]
    late = ChangeSender(KafkaAccess(broker.bootstrap), timeout_seconds=PATIENCE_SECONDS)
    with world.relay():
        wait_for("everything is sent", world.all_sent)
        world.change(500)
        wait_for("the new changes are sent", world.all_sent)
        late.send(caught, threading.Event())
        if busy:
            world.change(501)

        def whole() -> bool:
            return world.all_sent() and latest(_all_of(broker)) == latest(world.log())

        wait_for("compaction would keep the newest of every key", whole)
    late.close()


@pytest.mark.slow
def test_a_topic_that_lost_records_is_filled_again(world: World, broker: ProxiedBroker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    with world.relay():
        wait_for("everything is sent", world.all_sent)
        world.change(502)
        wait_for("the new changes are sent", world.all_sent)
        admin.delete_topics([REGISTRY_CHANGES.name])
        world.change(503)
        assert REGISTRY_CHANGES.name not in admin.list_topics(), "only an operator makes a topic"
        create_topics(KafkaAccess(broker.bootstrap), [REGISTRY_CHANGES], replication_factor=1)
        wait_for("all is there again", lambda: latest(_all_of(broker)) == latest(world.log()))
    admin.close()


@pytest.mark.parametrize(
    "forgotten", ["reset_at", *(pytest.param(name, marks=pytest.mark.slow) for name in ("topic_id", "end_offset"))]
)
def test_a_topic_that_was_made_anew_while_no_relay_was_there_gets_the_whole_log(
    world: World, broker: ProxiedBroker, forgotten: str
) -> None:
    """By its id; where a former release kept none, by its end, and the other way round."""
    with world.relay():
        wait_for("everything is sent", world.all_sent)
    value = "clock_timestamp()" if forgotten == "reset_at" else "NULL"
    with psycopg.connect(world.database.admin_dsn) as connection:
        connection.execute(f"UPDATE registry.relay_cursor SET {forgotten} = {value}")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([REGISTRY_CHANGES.name])
    create_topics(KafkaAccess(broker.bootstrap), [REGISTRY_CHANGES], replication_factor=1)
    admin.close()
    with world.relay() as relay:
        wait_for("it has sent what it thought necessary", lambda: relay.unready() is None)
        assert broker.records(len(world.log())) == world.log()


def test_another_registry_on_the_topic_is_noticed_by_whoever_leads_or_stands_by(
    world: World, broker: ProxiedBroker
) -> None:
    other = ChangeSender(KafkaAccess(broker.bootstrap), timeout_seconds=PATIENCE_SECONDS)
    with world.relay() as one, world.relay() as two:
        wait_for("both know that all is sent", lambda: one.unready() is None and two.unready() is None)
        assert one.completeness.is_confirmed
        assert two.completeness.is_confirmed
        other.send([UnsentChange(1, "plan:acme", b'{"seq": 1}')], threading.Event())
        wait_for("it is noticed", lambda: one.completeness.unready() and two.completeness.unready())
        assert "two registries" in str(one.completeness.unready())
    other.close()


def test_a_relay_that_finds_all_it_sent_sends_nothing_again(world: World, broker: ProxiedBroker) -> None:
    for _ in range(2):
        with world.relay() as relay:
            _wait_ready(relay)
    assert _everything(broker) == world.log()


def _wait_ready(relay: OutboxRelay) -> None:
    wait_for("the broker has all of it", lambda: relay.unready() is None)


def test_a_topic_that_is_missing_is_not_made_and_readiness_says_what_to_do(world: World, broker: ProxiedBroker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([REGISTRY_CHANGES.name])
    with world.relay() as relay:
        wait_for("it says what is missing", lambda: "`byok topics create`" in (relay.unready() or ""))
        assert REGISTRY_CHANGES.name not in admin.list_topics()
        create_topics(KafkaAccess(broker.bootstrap), [REGISTRY_CHANGES], replication_factor=1)
        wait_for("it goes on", lambda: relay.unready() is None)
    admin.close()


def _everything(broker: ProxiedBroker) -> list[tuple[str, bytes]]:
    """All that is on the topic, once no relay is left that would take the marks for those of another registry."""
    return [(each.key.decode(), each.value) for each in everything(broker.bootstrap, REGISTRY_CHANGES.name)]


def _all_of(broker: ProxiedBroker) -> list[tuple[str, bytes]]:
    """What is on the topic now; less than that where the broker takes its time."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    partition = TopicPartition(REGISTRY_CHANGES.name, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    found: list[tuple[str, bytes]] = []
    while batch := consumer.poll(timeout_ms=500).get(partition):
        found += [(record.key.decode(), record.value) for record in batch]
    consumer.close()
    return found


def _end_the_session_with_the_lock(world: World) -> None:
    """As a database does that lost its client; a process that is stopped cannot know."""
    with psycopg.connect(world.database.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
        )


@pytest.mark.slow
def test_a_stopped_relay_process_that_goes_on_harms_nothing(
    world: World, broker: ProxiedBroker, kek_file: Path, tokens: Any, tmp_path: Path
) -> None:
    """A real registry process, stopped again and again at any moment, while its lock goes to another relay."""
    environment = {
        "BYOK_REGISTRY_DSN": world.database.dsn,
        "BYOK_KEK_FILE": str(kek_file),
        "BYOK_JWT_JWKS_FILE": str(tokens.files.jwks_file),
        "BYOK_KAFKA_BOOTSTRAP": broker.bootstrap,
        "BYOK_REGISTRY_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "services", "registry"]
    with (
        (tmp_path / "registry.log").open("w") as log,
        subprocess.Popen(command, env=os.environ | environment, stderr=log) as process,
    ):
        try:
            wait_for("the process has sent everything", world.all_sent)
            for turn in range(5):
                world.change(600 + turn)
                process.send_signal(signal.SIGSTOP)
                with world.relay() as other:
                    _end_the_session_with_the_lock(world)
                    wait_for("the other relay takes over", lambda: other.leads)
                    world.change(700 + turn)
                    wait_for("the other relay has sent everything", world.all_sent)
                    process.send_signal(signal.SIGCONT)
                    world.change(800 + turn)
                    wait_for("everything is sent", world.all_sent)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(PATIENCE_SECONDS)
    wait_for("compaction would keep the newest of every key", lambda: latest(_all_of(broker)) == latest(world.log()))
    assert without_repeats(_everything(broker), world.log()) == world.log()


_SENDS = 5


@pytest.mark.parametrize("size", [1, 2, 500])
@pytest.mark.slow
def test_what_is_sent_at_once_is_one_batch(broker: ProxiedBroker, size: int) -> None:
    """On this the order rests: a broker writes a batch whole or not at all, so no change in it can be missing."""
    sender = ChangeSender(KafkaAccess(broker.bootstrap), timeout_seconds=PATIENCE_SECONDS)
    try:
        assert sender.destination().topic_id
        payload = b"x" * (SEND_BYTES_MAX // size - 20)
        # More than once: the first has to wait for the connection, so that half of it could not leave early anyway.
        for _ in range(_SENDS):
            sender.send([UnsentChange(n, f"plan:{n}", payload) for n in range(size)], threading.Event())
        # A request carries one batch of a partition.
        metrics = sender._producer.metrics()["producer-metrics"]
        assert metrics["records-per-request-avg"] == size
    finally:
        sender.close()
    assert len(broker.records(_SENDS * size)) == _SENDS * size
