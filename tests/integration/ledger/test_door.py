"""The door of usage events on a real broker and database: prices as the registry's topic says, quotas as the ledger."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest
from fastapi.testclient import TestClient
from kafka import KafkaProducer

from schemas.registry_changes import RateCardChange
from schemas.topics import REGISTRY_CHANGES
from services.key_registry.rate_cards import packaged_cards
from services.ledger.database import open_engine
from services.ledger.dead_letter_quota import DeadLetterQuota
from services.ledger.main import build_app
from tests.integration.real_parts import running_broker
from tests.patience import PATIENCE_SECONDS

URL = "/v1/usage-events"
LONG_AGO = "2026-01-01T00:00:00Z"


def event(event_id="e1", *, org_id="acme", model="claude-sonnet-4-6", at="2026-11-10T00:00:00Z"):
    data = {"org_id": org_id, "user_id": "ann", "node": "ask_ai", "provider": "anthropic", "model": model}
    envelope = {"specversion": "1.0", "id": event_id, "source": "runner/1", "type": "usage.node_call.v1"}
    return envelope | {"time": at, "data": data}


def card_changes(*more):
    """The shipped cards, and others."""
    cards = [(card.card, card.effective_from, card.body) for card in packaged_cards()]
    return [
        RateCardChange(seq=seq, changed_at=LONG_AGO, card=card, effective_from=since, body=body)
        for seq, (card, since, body) in enumerate([*cards, *more], start=1)
    ]


def send(bootstrap, changes):
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all")) as producer:
        for change in changes:
            value = change.model_dump_json(by_alias=True).encode()
            producer.send(REGISTRY_CHANGES.name, value, change.key.encode()).get(PATIENCE_SECONDS)


@pytest.fixture
def own_broker(tmp_path):
    """A broker whose registry log nobody else knows."""
    with running_broker(tmp_path) as bootstrap:
        yield bootstrap


@pytest.fixture
def own_client(stack, database, own_broker):
    app = build_app(stack.settings(database, kafka_bootstrap=own_broker))
    with TestClient(app, base_url="http://ledger.test") as client:
        yield client


@pytest.fixture
def post(own_client, bearer):
    headers = bearer("runner", scope="usage:write")

    def post(*events):
        return own_client.post(URL, json=list(events), headers=headers)

    return post


def until(what, look):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_what_no_card_prices_is_refused_once_all_cards_are_known(own_broker, own_client, post):
    assert post(event(model="nobody")).status_code == 202
    send(own_broker, card_changes())
    until("the cards", lambda: post(event(model="nobody")).status_code == 422)
    answer = post(event(model="nobody"), event("e2", at="2026-01-01T00:00:00Z"))
    assert answer.json()["code"] == "unpriced_model"
    assert [(error["index"], error["field"], error["code"]) for error in answer.json()["errors"]] == [
        (0, "data.model", "unpriced_model"),
        (1, "time", "no_rate_card"),
    ]
    mixed = post(event(model="nobody"), event("good"), event("late", at="2030-01-01T00:00:00Z"))
    assert (mixed.status_code, mixed.json()["accepted"], mixed.json()["refused"]) == (207, 1, 2)
    assert [error["code"] for error in mixed.json()["errors"]] == ["unpriced_model", "time_in_future"]
    assert post(event()).status_code == 202
    lines = own_client.get("/metrics").text.splitlines()
    (refused,) = [line for line in lines if line.startswith('byok_door_refusals_total{reason="no_rate_card"}')]
    assert refused.endswith(" 1.0")


def test_a_card_that_is_published_is_never_the_cause_of_a_refusal(own_broker, post, books):
    send(own_broker, card_changes())
    until("the cards", lambda: post(event(model="brand-new")).status_code == 422)
    # Metering has read on, and this service has not.
    books.rate_cards()
    books.plan("acme", "pro")
    assert post(event(model="brand-new")).status_code == 202
    body = json.loads(json.dumps(packaged_cards()[-1].body))
    body["models"]["anthropic"]["brand-new"] = body["models"]["anthropic"]["claude-sonnet-4-6"]
    send(own_broker, card_changes(("2026-11-09", "2026-11-09T00:00:00Z", body))[-1:])
    # All that the ledger has is known again.
    until("the new card", lambda: post(event(model="nobody")).status_code == 422)
    assert post(event(model="brand-new")).status_code == 202


def dead_letters(books, org_id, how_many, *, reason="identity_conflict", minutes_ago=0):
    """Refused events of an organization."""
    books.connection.execute(
        """INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)
           VALUES ('c', 't', 0, 0, 0) ON CONFLICT DO NOTHING"""
    )
    books.connection.execute(
        """INSERT INTO ledger.dead_letter (source_partition_id, source_offset, source_index, reason, detail, org_id,
             payload, masked, failed_at)
           SELECT (SELECT source_partition_id FROM ledger.source_partition), %s + n, 0, %s, 'x', %s, '', false,
             now() - make_interval(mins => %s) FROM generate_series(1, %s) AS n""",
        (books.offset, reason, org_id, minutes_ago, how_many),
    )
    books.offset += how_many


def test_beyond_its_quota_an_organization_is_told_to_come_again(stack, database, books, bearer):
    app = build_app(stack.settings(database, ingest_dead_letters_per_hour=10))
    dead_letters(books, "bad", 11)
    dead_letters(books, "fine", 10)
    dead_letters(books, "priceless", 50, reason="unpriced_model")
    runner, operator = bearer("runner", scope="usage:write"), bearer(scope="usage:write", org_role="admin")
    with TestClient(app, base_url="http://ledger.test") as client:

        def post(*events, headers=runner):
            return client.post(URL, json=list(events), headers=headers)

        until("the quota", lambda: post(event(org_id="bad")).status_code == 429)
        answer = post(event(org_id="bad"))
        assert answer.json()["code"] == "dead_letter_quota"
        assert answer.headers["content-type"] == "application/problem+json"
        assert 3_500 < int(answer.headers["Retry-After"]) <= 3_600
        mixed = post(event(org_id="bad"), event(org_id="fine"), event(org_id="priceless"))
        assert (mixed.status_code, mixed.json()["accepted"]) == (207, 2)
        assert [(each["index"], each["code"]) for each in mixed.json()["errors"]] == [(0, "dead_letter_quota")]
        assert post(event(org_id="fine"), event(org_id="priceless")).status_code == 202
        assert post(event(org_id="bad"), headers=operator).status_code == 202


def test_an_organization_waits_until_enough_of_them_are_an_hour_old(stack, database, books):
    now = 1_000.0
    quota = DeadLetterQuota(open_engine(stack.dsn("ledger_service", database)), 10, clock=lambda: now)
    dead_letters(books, "bad", 8, minutes_ago=30)
    dead_letters(books, "bad", 1, minutes_ago=61)
    dead_letters(books, "bad", 3, minutes_ago=10)
    assert quota.waits(["bad", "unknown"]) == {}
    quota.look()
    (seconds,) = quota.waits(["bad", "unknown"]).values()
    assert seconds == pytest.approx(30 * 60, abs=60)
    now += seconds - 1
    quota.look()
    assert quota.waits(["bad"])
    now += 1
    assert quota.waits(["bad"]) == {}


def test_while_the_database_is_away_nobody_new_is_refused():
    quota = DeadLetterQuota(open_engine("postgresql://nobody@127.0.0.1:9/none"), 10)
    assert quota.waits(["acme"]) == {}
    quota.look()
    assert quota.waits(["acme"]) == {}
