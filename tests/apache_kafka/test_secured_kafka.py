"""All services on a Kafka with TLS, passwords and ACLs, each with what it needs; and what is refused is told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ResourceType

from services.local.endpoints import Ports
from tests.apache_kafka.secured_rig import STRANGER, USERS, SecuredRig, documented_grants, running_secured_rig
from tests.e2e.running import node_call
from tests.faults.rig import Service
from tests.kafka.certificates import Authority
from tests.kafka.secured import token
from tests.patience import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow

USAGE, DEAD_LETTERS = "byok.usage-events", "byok.usage-dead-letters"
_TOKEN_SECONDS = 60.0
"""Ten times as long as a worker takes to be ready, which this one must be before its token is over."""


@pytest.fixture(scope="module")
def rig(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredRig]:
    """All three services, ready."""
    with running_secured_rig(tmp_path_factory.mktemp("secured") / "data") as running:
        services = (running.registry, running.ledger, running.worker())
        for service in services:
            service.start()
        for service in services:
            service.wait_ready()
        yield running
        for log in running.logs.glob("*.log"):
            assert not [user for user in (*USERS, STRANGER) if f"of-{user}" in log.read_text()], log.name


@pytest.fixture
def another(rig: SecuredRig) -> Iterator[Any]:
    """Starts one more process of a kind, with settings of its own for Kafka."""
    started: list[Service] = []

    def start(kind: str, **settings: str) -> Service:
        port = getattr(Ports.free_block(), kind)
        service = rig.service(f"{kind}-{uuid.uuid4().hex[:6]}", kind, port, **settings)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


def _charges(rig: SecuredRig, org_id: str) -> int:
    (row,) = rig.rows("SELECT count(*) AS n FROM ledger.entry WHERE org_id = %s AND kind = 'charge'", org_id)
    return int(row["n"])


def _byok(rig: SecuredRig, *arguments: str, user: str = "operator", **changes: str | None) -> Any:
    return rig.byok(*arguments, **rig.secured.settings(user, **changes))


# --- what is allowed --------------------------------------------------------------------------------------------------


def test_every_user_of_the_page_is_one_of_ours() -> None:
    assert {user for user, *_grant in documented_grants()} == set(USERS)


def test_a_key_an_event_and_a_dead_letter_go_all_the_way(rig: SecuredRig) -> None:
    org_id = f"org-{uuid.uuid4().hex[:8]}"
    with rig.http() as http:
        plan = {"plan": "pro", "effective_from": "2026-10-01T00:00:00Z"}
        http.put(f"/v1/organizations/{org_id}/plan", json=plan).raise_for_status()
        scope = {"type": "personal", "id": "ada"}
        key = {"org_id": org_id, "provider": "anthropic", "api_key": "sk-test-0123456789abcdefghij", "scope": scope}
        key["effective_from"] = "2026-10-01T00:00:00Z"
        http.post("/v1/credentials", json=key).raise_for_status()
    with rig.http("ledger") as http:
        http.post("/v1/usage-events", json=node_call(org_id)).raise_for_status()
    wait_for("the event to be booked", lambda: _charges(rig, org_id))
    (entry,) = rig.rows("SELECT key_source FROM ledger.entry WHERE org_id = %s AND kind = 'charge'", org_id)
    assert entry["key_source"] == "byok"

    with closing(KafkaProducer(bootstrap_servers=rig.kafka.bootstrap)) as producer:
        producer.send(USAGE, b"no JSON", key=org_id.encode()).get(timeout=PATIENCE_SECONDS)
    assert b"no JSON" in wait_for("the dead letter to be copied", lambda: _values(rig, DEAD_LETTERS))


def _values(rig: SecuredRig, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=rig.kafka.bootstrap, enable_auto_commit=False)
    with closing(consumer):
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        return [each.value for records in consumer.poll(2_000).values() for each in records]


def test_an_operators_commands_work(rig: SecuredRig, tmp_path: Path) -> None:
    checked = _byok(rig, "topics", "check", "--replication-factor", "1")
    assert (checked.returncode, checked.stdout) == (0, "All topics are as they should be.\n"), checked.stderr
    created = _byok(rig, "topics", "create", "--replication-factor", "1")
    assert created.returncode == 0, created.stderr

    org_id, file = f"org-{uuid.uuid4().hex[:8]}", tmp_path / "usage.jsonl"
    unpriced = node_call(org_id, id="unpriced", data={"model": "no-such-model"})
    file.write_text("".join(json.dumps(event) + "\n" for event in (node_call(org_id), unpriced)))
    published = _byok(rig, "usage", "publish", str(file))
    # It says itself that one of the two was refused, and why.
    assert (published.returncode, "unpriced_model 1" in published.stdout) == (1, True), published.stderr
    assert _charges(rig, org_id) == 1
    again = _byok(rig, "dead-letters", "replay", "--org", org_id, "--yes")
    assert again.returncode == 0, again.stderr
    assert "Sent 1 events" in again.stdout
    replayed = _byok(rig, "verify", "--replay")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SASL_SSL", "SCRAM-SHA-256"),
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "OAUTHBEARER"),
        ("SSL", ""),
        ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ],
)
def test_every_client_knows_every_mechanism(rig: SecuredRig, another: Any, protocol: str, mechanism: str) -> None:
    # A worker that has partitions has used kafka-python, aiokafka and Faust.
    worker = another("metering", **rig.secured.settings("metering", mechanism, protocol))
    worker.wait_ready()


def test_a_worker_whose_token_is_over_says_so_and_goes_on_with_the_next(rig: SecuredRig, another: Any) -> None:
    rig.worker().stop()
    try:
        file = rig.secured.secret("renewed.jwt", token("metering", _TOKEN_SECONDS))
        settings = rig.secured.settings("metering", "OAUTHBEARER", BYOK_KAFKA_SASL_TOKEN_FILE=str(file))
        worker = another("metering", **settings)
        worker.wait_ready()
        _wait_told(worker, "fetching", "renewed.jwt is over")
        file.write_text(token("metering"))
        org_id = f"org-{uuid.uuid4().hex[:8]}"
        with closing(KafkaProducer(bootstrap_servers=rig.kafka.bootstrap)) as producer:
            for partition in range(12):
                event = json.dumps(node_call(org_id)).encode()
                producer.send(USAGE, event, partition=partition).get(timeout=PATIENCE_SECONDS)
        wait_for("all of it to be booked", lambda: _charges(rig, org_id) == 12)
        worker.wait_ready()
    finally:
        rig.worker().start()
        rig.worker().wait_ready()


# --- what is refused --------------------------------------------------------------------------------------------------


def _refusals(rig: SecuredRig, folder: Path) -> dict[str, dict[str, str]]:
    secured = rig.secured
    other = Authority(folder)
    by_name = secured.listener("SASL_SSL").replace("127.0.0.1", "localhost")
    wrong = str(secured.secret("wrong", "of-somebody"))
    old = str(secured.secret("old.jwt", token("operator", -60)))
    none = str(secured.secret("none.jwt", "no-token"))
    return {
        "authentication: ": secured.settings("operator", BYOK_KAFKA_SASL_PASSWORD_FILE=wrong),
        "authentication: the broker": secured.settings("operator", "PLAIN", BYOK_KAFKA_SASL_PASSWORD_FILE=wrong),
        "does not accept our token": secured.settings("operator", "OAUTHBEARER", BYOK_KAFKA_SASL_TOKEN_FILE=none),
        "old.jwt is over": secured.settings("operator", "OAUTHBEARER", BYOK_KAFKA_SASL_TOKEN_FILE=old),
        "certificate: ": secured.settings("operator", BYOK_KAFKA_SSL_CA_FILE=str(other.file)),
        "certificate: that of the broker": secured.settings("operator", BYOK_KAFKA_SSL_CA_FILE=None),
        "certificate is not valid for 'localhost'": secured.settings("operator", BYOK_KAFKA_BOOTSTRAP=by_name),
        "connection: the broker": secured.settings("operator", BYOK_KAFKA_BOOTSTRAP=rig.kafka.bootstrap),
        "authorization: stranger may not Describe the topic byok.": secured.settings(STRANGER),
    }


def test_a_command_that_is_refused_says_why_at_once(rig: SecuredRig, tmp_path: Path) -> None:
    for sentence, settings in _refusals(rig, tmp_path / "other").items():
        done = rig.byok("topics", "check", **settings)
        assert (done.returncode, done.stdout) == (3, ""), (sentence, done.stderr)
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("command", [("usage", "publish", "FILE"), ("topics", "create")])
def test_a_stranger_writes_and_makes_nothing(rig: SecuredRig, tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "usage.jsonl"
    file.write_text(json.dumps(node_call("org-of-a-stranger")) + "\n")
    done = _byok(rig, *(str(file) if word == "FILE" else word for word in command), user=STRANGER)
    assert done.returncode == 3, done.stderr
    assert "authorization: " in done.stderr


def test_settings_that_make_no_sense_are_told_before_anything_starts(rig: SecuredRig, another: Any) -> None:
    settings = rig.secured.settings("metering", BYOK_KAFKA_SASL_PASSWORD_FILE=None)
    done = rig.byok("topics", "check", **settings)
    assert done.returncode == 2
    assert "BYOK_KAFKA_SASL_PASSWORD_FILE is not set" in done.stderr
    for kind in ("registry", "metering", "ledger"):
        service = another(kind, **settings)
        assert service.wait_exit() == 2
        assert "BYOK_KAFKA_SASL_PASSWORD_FILE is not set" in service.log_file.read_text()


@pytest.mark.parametrize(("kind", "check"), [("metering", "broker"), ("registry", "outbox"), ("ledger", "broker")])
def test_a_service_with_a_wrong_password_says_so_and_goes_on_when_it_is_right(
    rig: SecuredRig, another: Any, kind: str, check: str
) -> None:
    password = rig.secured.secret(f"of-another-{kind}", "not-it")
    service = another(kind, **rig.secured.settings(kind, BYOK_KAFKA_SASL_PASSWORD_FILE=str(password)))
    _wait_told(service, check, f"does not accept the user {kind} with its password")
    password.write_text(f"of-{kind}")
    service.wait_ready()


@pytest.mark.parametrize(("kind", "check"), [("metering", "broker"), ("registry", "outbox"), ("ledger", "broker")])
def test_a_service_that_does_not_trust_the_broker_says_so(
    rig: SecuredRig, another: Any, tmp_path: Path, kind: str, check: str
) -> None:
    settings = rig.secured.settings(kind, BYOK_KAFKA_SSL_CA_FILE=str(Authority(tmp_path).file))
    _wait_told(another(kind, **settings), check, "certificate: that of the broker")


@pytest.mark.parametrize(("kind", "check"), [("metering", "broker"), ("registry", "outbox"), ("ledger", "broker")])
def test_a_service_without_an_acl_says_which_and_goes_on_when_it_has_it(
    rig: SecuredRig, another: Any, kind: str, check: str
) -> None:
    user = f"new-{kind}"
    service = another(kind, **rig.secured.settings(user, protocol="SSL"))
    _wait_told(service, check, "authorization: ")
    rig.secured.allow(user, *_grants(kind))
    service.wait_ready()


def _grants(kind: str) -> list[tuple[ResourceType, str, str]]:
    """What the page has for a service."""
    return [(resource, name, operation) for user, resource, name, operation in documented_grants() if user == kind]


def _wait_told(service: Service, check: str, sentence: str) -> None:
    def is_told() -> bool:
        return sentence in (service.said or {}).get(check, "")

    wait_for(f"{service.name} to say why; see {service.log_file}", is_told)
    assert sentence in service.log_file.read_text()


def test_a_worker_whose_right_is_taken_away_ends_and_then_waits_for_it(rig: SecuredRig, another: Any) -> None:
    rig.secured.allow("fleeting", *_grants("metering"))
    worker = another("metering", **rig.secured.settings("fleeting", protocol="SSL"))
    worker.wait_ready()
    reads = (ResourceType.TOPIC, USAGE, "READ")
    rig.secured.forbid("fleeting", reads)
    assert worker.wait_exit() == 1
    worker.start()
    _wait_told(worker, "broker", f"may not Read the topic {USAGE}")
    rig.secured.allow("fleeting", reads)
    worker.wait_ready()


def test_a_ledger_whose_right_is_taken_away_refuses_events_until_it_has_it_again(rig: SecuredRig, another: Any) -> None:
    rig.secured.allow("fleeting-ledger", *_grants("ledger"))
    ledger = another("ledger", **rig.secured.settings("fleeting-ledger", protocol="SSL"))
    ledger.wait_ready()
    writes = (ResourceType.TOPIC, USAGE, "WRITE")
    with rig.http("ledger") as http:
        http.base_url = ledger.url

        def post() -> int:
            return int(http.post("/v1/usage-events", json=node_call("org-of-the-ledger")).status_code)

        assert post() == 202
        rig.secured.forbid("fleeting-ledger", writes)
        wait_for("an event to be refused", lambda: post() == 503)
        _wait_told(ledger, "broker", f"may not Write the topic {USAGE}")
        rig.secured.allow("fleeting-ledger", writes)
        ledger.wait_ready()
        wait_for("an event to be taken", lambda: post() == 202)


def test_a_ledger_that_may_not_read_the_rate_cards_says_so_and_takes_events(rig: SecuredRig, another: Any) -> None:
    rig.secured.allow("half-ledger", (ResourceType.TOPIC, USAGE, "WRITE"))
    ledger = another("ledger", **rig.secured.settings("half-ledger", protocol="SSL"))
    ledger.wait_ready()

    def is_told() -> bool:
        lines = map(json.loads, ledger.log_file.read_text().splitlines())
        return any("authorization: " in str(each.get("error")) and "cards" in each["event"] for each in lines)

    wait_for(f"the ledger to say so; see {ledger.log_file}", is_told)
