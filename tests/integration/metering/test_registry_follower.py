"""What a follower makes of the registry's topic when it begins with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaProducer

from schemas.registry_changes import RegistryChange
from schemas.topics import REGISTRY_CHANGES
from services.books.registry_log import RegistryForkedError
from services.domain.directory import Directory
from services.domain.scope import Plan
from services.metering import registry_follower
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating import rerater
from services.metering.rerating.rerater import Rerater
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import (
    LONG_AGO,
    NOW,
    Worker,
    cards,
    key,
    node_call,
    payloads,
    plan,
    publish,
    rerate,
)
from tests.integration.real_parts import running_broker
from tests.patience import PATIENCE_SECONDS

_OWN_KEY_MC, _PLATFORM_MC = 1_000_000, 20_000_000
_EARLY, _LATE, _OTHER = plan(5, "free"), plan(9, "enterprise"), plan(10, "pro", org_id="other")


def send(broker: str, changes: Sequence[RegistryChange]) -> None:
    """To the topic, in this order, as the registry does."""
    with closing(KafkaProducer(bootstrap_servers=broker, acks="all")) as producer:
        for change, payload in zip(changes, payloads(changes), strict=True):
            sent = producer.send(REGISTRY_CHANGES.name, key=change.key.encode(), value=payload, partition=0)
            sent.get(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([_EARLY, _LATE, _OTHER], id="as it was sent"),
        pytest.param([_EARLY, _LATE, _OTHER, _EARLY, _LATE, _OTHER], id="sent again"),
        # Compaction works on all but the newest records: the older part may have lost what the newer part has again.
        pytest.param([_OTHER, _EARLY, _LATE, _OTHER], id="sent again, and compacted in part"),
        pytest.param([_OTHER, _LATE], id="sent again, and compacted otherwise"),
    ],
)
def test_the_newest_change_of_each_key_counts_wherever_it_stands(
    records: list[RegistryChange], ledger: Ledger, tmp_path: Path
) -> None:
    async def test(broker: str) -> None:
        changes = [*cards(), *records]
        send(broker, changes)
        # The second reads all of it from the table, and finds nothing new in the topic.
        for _ in range(2):
            directory = Directory()
            follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), directory)
            await follower.catch_up()
            await follower.stop()
            assert directory.seq == _OTHER.seq
            assert (directory.plan_at("acme", NOW), directory.plan_at("other", NOW)) == (Plan.ENTERPRISE, Plan.PRO)
            kept = ledger.rows("SELECT seq FROM ledger.registry_change ORDER BY arrival")
            assert [row["seq"] for row in kept] == sorted({change.seq for change in changes})

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), PATIENCE_SECONDS))


def test_newer_changes_may_stand_far_before_older_ones(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_follower, "_READ_TOGETHER", 1)

    async def test(broker: str) -> None:
        send(broker, [*cards(), _OTHER, _LATE, _EARLY])
        for _ in range(2):
            follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
            await follower.catch_up()
            await follower.stop()
            assert (follower.directory.seq, follower.directory.plan_at("acme", NOW)) == (_OTHER.seq, Plan.ENTERPRISE)
        # What came after it is looked at again: of that something may have been priced without it.
        assert _rerated(ledger) < _LATE.seq

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), PATIENCE_SECONDS))


def test_what_another_worker_appends_while_the_topic_is_compared_is_known_too(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [*cards(), _EARLY, _LATE]

    async def test(broker: str) -> None:
        other = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        await other.take_in(payloads(changes[:-1]))
        send(broker, changes)
        follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        compare = follower._unknown

        def unknown(fetched: Sequence[bytes]) -> list[bytes]:
            other._append([registry_follower._read(payloads([_LATE])[0])])
            return compare(fetched)

        monkeypatch.setattr(follower, "_unknown", unknown)
        await follower.catch_up()
        await follower.stop()
        assert (follower.directory.seq, follower.directory.plan_at("acme", NOW)) == (_LATE.seq, Plan.ENTERPRISE)

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), PATIENCE_SECONDS))


def test_of_another_registry_s_log_nothing_is_appended(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_follower, "_READ_TOGETHER", 1)

    async def test(broker: str) -> None:
        mine = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        await mine.take_in(payloads([*cards(), _EARLY]))
        send(broker, [*cards(), _OTHER, plan(_EARLY.seq, "pro")])
        follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        with pytest.raises(RegistryForkedError):
            await follower.catch_up()
        await follower.stop()
        kept = ledger.rows("SELECT max(seq) AS seq FROM ledger.registry_change")
        assert kept == [{"seq": _EARLY.seq}]

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), PATIENCE_SECONDS))


def test_what_was_priced_without_a_change_that_came_late_is_put_right(ledger: Ledger, broker: str, topic: str) -> None:
    log = [*cards(), plan(3, "pro"), key(4, (LONG_AGO, None)), plan(5, "pro", org_id="other")]

    async def test(connection: psycopg.Connection[Any]) -> None:
        own, stop = Rerater(ledger.dsn), threading.Event()
        filling, other = Worker(ledger.dsn, broker, topic), Worker(ledger.dsn, broker, topic)
        for worker in (filling, other):
            await worker.learn(*(change for change in log if change.seq != 3))
        await filling.book(publish(broker, topic, 0, node_call("a")))
        own.step(connection, stop)
        assert _charged(ledger) == {"a": _PLATFORM_MC}
        await filling.learn(*log)
        own.step(connection, stop)
        assert _charged(ledger) == {"a": _OWN_KEY_MC}
        # Another worker hears of it later, and prices without it until then.
        await other.book(publish(broker, topic, 1, node_call("b")))
        await other.learn(*log)
        await other.book(publish(broker, topic, 1, node_call("c")))
        assert _charged(ledger) == {"a": _OWN_KEY_MC, "b": _PLATFORM_MC, "c": _OWN_KEY_MC}
        own.step(connection, stop)
        assert _charged(ledger) == dict.fromkeys("abc", _OWN_KEY_MC)
        assert _rerated(ledger) == 5
        for worker in (filling, other):
            assert (worker.directory.seq, worker.directory.plan_at("acme", NOW)) == (5, Plan.PRO)
            await worker.stop()

    with closing(connect(ledger.dsn, "test-rerater", autocommit=True)) as connection:
        asyncio.run(asyncio.wait_for(test(connection), PATIENCE_SECONDS))


def test_a_rerater_knows_what_came_late_and_another_has_worked_off(ledger: Ledger, broker: str, topic: str) -> None:
    async def test(connection: psycopg.Connection[Any]) -> None:
        own, stop = Rerater(ledger.dsn), threading.Event()
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), plan(3, "pro"), _OTHER)
        own.step(connection, stop)
        await worker.learn(key(4, (LONG_AGO, None)))
        rerate(ledger.dsn)
        await worker.book(publish(broker, topic, 0, node_call("a")))
        assert _charged(ledger) == {"a": _OWN_KEY_MC}
        # It touches the entry, and moves no price.
        await worker.learn(plan(11, "enterprise"))
        own.step(connection, stop)
        assert _charged(ledger) == {"a": _OWN_KEY_MC}
        await worker.stop()

    with closing(connect(ledger.dsn, "test-rerater", autocommit=True)) as connection:
        asyncio.run(asyncio.wait_for(test(connection), PATIENCE_SECONDS))


def test_a_change_that_comes_late_while_another_is_worked_off_is_worked_off_next(
    ledger: Ledger, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, original = plan(3, "pro"), rerater._raise_fence

    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), key(4, (LONG_AGO, None)))
        await worker.book(publish(broker, topic, 0, node_call("a")))

        def raise_fence(connection: psycopg.Connection[Any], head: int) -> None:
            original(connection, head)
            worker.follower._append([registry_follower._read(payloads([late])[0])])

        with monkeypatch.context() as patched:
            patched.setattr(rerater, "_raise_fence", raise_fence)
            rerate(ledger.dsn)
        assert _charged(ledger) == {"a": _PLATFORM_MC}
        rerate(ledger.dsn)
        assert (_charged(ledger), _rerated(ledger)) == ({"a": _OWN_KEY_MC}, 4)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def test_a_worker_that_starts_with_a_hole_knows_what_the_topic_holds_of_it(ledger: Ledger, tmp_path: Path) -> None:
    late = plan(3, "pro")

    async def test(broker: str) -> None:
        await RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory()).take_in(payloads([*cards(), _OTHER]))
        send(broker, [late])
        follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        await follower.catch_up()
        await follower.stop()
        assert (follower.directory.seq, follower.directory.plan_at("acme", NOW)) == (_OTHER.seq, Plan.PRO)

    with running_broker(tmp_path) as broker:
        asyncio.run(asyncio.wait_for(test(broker), PATIENCE_SECONDS))


def test_an_earlier_state_that_was_compacted_away_moves_nothing(ledger: Ledger, broker: str) -> None:
    async def test() -> None:
        follower = RegistryFollower(ledger.dsn, KafkaAccess(broker), Directory())
        await follower.take_in(payloads([*cards(), _LATE, _OTHER]))
        rerate(ledger.dsn)
        await follower.take_in(payloads([_EARLY, _LATE]))
        assert follower.directory.plan_at("acme", NOW) is Plan.ENTERPRISE
        assert _rerated(ledger) == _OTHER.seq

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def _rerated(ledger: Ledger) -> int:
    return int(ledger.rows("SELECT rerated_seq FROM ledger.fence")[0]["rerated_seq"])


def _charged(ledger: Ledger) -> dict[str, int]:
    """What each event costs."""
    rows = ledger.rows("SELECT event_id, sum(charged_mc)::bigint AS mc FROM ledger.entry GROUP BY 1")
    return {row["event_id"]: row["mc"] for row in rows}
