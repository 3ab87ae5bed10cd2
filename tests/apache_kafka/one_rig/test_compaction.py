"""A compacted registry log: it forgets what a key or plan once was, and a new ledger still comes to the same prices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from tests.apache_kafka.metering import Metering
from tests.patience import wait_for

pytestmark = pytest.mark.slow

_REGISTRY = TopicPartition("byok.registry-changes", 0)
_PLAN_CHANGES = 30


@dataclass(frozen=True)
class Log:
    """What one reads of the registry's topic from its beginning."""

    seqs: list[int]


def _read_log(metering: Metering) -> Log:
    consumer = KafkaConsumer(bootstrap_servers=metering.rig.kafka.bootstrap, enable_auto_commit=False)
    try:
        consumer.assign([_REGISTRY])
        consumer.seek_to_beginning(_REGISTRY)
        end = consumer.end_offsets([_REGISTRY])[_REGISTRY]
        seqs: list[int] = []
        while consumer.position(_REGISTRY) < end:
            for records in consumer.poll(200).values():
                seqs += [json.loads(record.value)["seq"] for record in records]
        return Log(seqs)
    finally:
        consumer.close()


def _compact_soon(metering: Metering) -> None:
    settings = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "100"}
    admin = KafkaAdminClient(bootstrap_servers=metering.rig.kafka.bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, _REGISTRY.topic, settings)])
    finally:
        admin.close()


def _set_plan(metering: Metering, plan: str, since: str) -> None:
    with metering.rig.http() as http:
        body = {"plan": plan, "effective_from": since}
        http.put(f"/v1/organizations/{metering.org_id}/plan", json=body).raise_for_status()


def _final(metering: Metering, database: str) -> list[dict[str, Any]]:
    with metering.rig.connect(database) as connection:
        return connection.execute(
            """SELECT event_id, sum(list_mc) AS list_mc, sum(charged_mc) AS charged_mc,
                 (array_agg(rate_card || key_source || reason ORDER BY revision DESC, kind))[1] AS said
               FROM ledger.entry WHERE org_id = %s GROUP BY event_source, event_id ORDER BY event_id""",
            (metering.org_id,),
        ).fetchall()


def test_a_ledger_that_begins_with_a_compacted_log_comes_to_the_same_prices(metering: Metering) -> None:
    _compact_soon(metering)
    worker = metering.start()
    for number in range(_PLAN_CHANGES):
        _set_plan(metering, ("pro", "enterprise", "free")[number % 3], f"2026-10-{number % 28 + 1:02}T00:00:00Z")
        metering.send(2)
    with metering.rig.http() as http:
        key: dict[str, Any] = {
            "org_id": metering.org_id,
            "provider": "anthropic",
            "api_key": "sk-test-0123456789abcdefghij",
        }
        _set_plan(metering, "pro", "2026-10-01T00:00:00Z")
        key |= {"scope": {"type": "personal", "id": "ada"}, "effective_from": "2026-10-01T00:00:00Z"}
        http.post("/v1/credentials", json=key).raise_for_status()
    metering.wait_charged(metering.sent_ids())

    def compacted() -> Log | None:
        # Only what is not in the newest segment is compacted, and a segment ends when something is appended.
        _set_plan(metering, "pro", "2026-10-02T00:00:00Z")
        _set_plan(metering, "enterprise", "2026-10-02T00:00:00Z")
        log = _read_log(metering)
        return log if len(log.seqs) < max(log.seqs) - _PLAN_CHANGES // 2 else None

    log = wait_for("the log to be compacted", compacted)
    assert log.seqs == sorted(log.seqs)
    (head,) = metering.rig.rows("SELECT last_seq FROM registry.log_head", database="registry")
    worked_off = "SELECT 1 FROM ledger.fence WHERE rerated_seq >= %s"
    wait_for("the last change to be worked off", lambda: metering.rig.rows(worked_off, head["last_seq"]))
    worker.stop()

    fresh = metering.rig.fresh_worker("ledger_2")
    fresh.start()
    fresh.wait_ready()
    should = _final(metering, "ledger")
    wait_for(
        "the same events in a ledger of its own",
        lambda: len(_final(metering, "ledger_2")) >= len(should),
    )
    assert _final(metering, "ledger_2") == should
    fresh.stop()
