"""What goes wrong, made to go wrong for real, and which alerts tell of it."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import services.key_registry.rate_cards
from schemas.topics import USAGE_EVENTS
from tests.e2e.alerts.monitored_stack import Rig
from tests.e2e.running import USAGE, node_call
from tests.kafka.raw_batches import batch, changed, produce_bytes
from tests.patience import wait_for

MANY = 120
"""More than a hundred: from there on most alerts take it seriously."""


class Fault(NamedTuple):
    """One fault; inside of ``make`` it is there, and its alerts come."""

    make: Callable[[Rig], AbstractContextManager[None]]
    alerts: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.make.__name__.removeprefix("_")


@contextmanager
def _keys_of_one_scope_are_deleted(rig: Rig) -> Iterator[None]:
    answer = rig.stack.registry.delete(f"/v1/credentials/{rig.traffic.personal_key}")
    assert answer.is_success, answer.text
    yield


@contextmanager
def _runners_hand_in_late(rig: Rig) -> Iterator[None]:
    rig.traffic.hand_in_late(timedelta(minutes=3))
    yield
    rig.traffic.hand_in_late(timedelta(0))


@contextmanager
def _runners_send_what_cannot_be_booked(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization()
    first = node_call(org_id)
    rig.publish(first, first | {"data": first["data"] | {"node": "another"}})
    rig.publish(*_unpriced(org_id))
    # How many of all events are refused is seen of what goes on.
    rig.wait_fired("UnpricedModel")
    rig.publish(*_unpriced(org_id))
    yield


def _unpriced(org_id: str) -> list[dict[str, Any]]:
    return [node_call(org_id, data={"model": "nobody-knows-it"}) for _ in range(MANY)]


@contextmanager
def _the_door_is_asked_for_a_model_without_a_price(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization()
    answer = rig.stack.ledger.post("/v1/usage-events", json=_unpriced(org_id))
    assert answer.json()["code"] == "unpriced_model", answer.text
    yield


@contextmanager
def _bytes_in_the_log_are_broken(rig: Rig) -> Iterator[None]:
    produce_bytes(rig.stack.told["kafka"], USAGE_EVENTS.name, 0, changed(batch([b"{}"]), crc=1))
    yield


@contextmanager
def _runners_use_the_platforms_key_instead_of_their_own(rig: Rig) -> Iterator[None]:
    claim = {"user_id": "tom", "team_id": "core", "credential": {"source": "platform"}}
    rig.publish(*(node_call(rig.traffic.org_id, data=claim) for _ in range(2 * MANY)))
    yield


@contextmanager
def _a_provider_takes_no_key_any_more(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization("pro")
    keys = [rig.stack.add_key(org_id, "personal", f"user-{number}", "xai") for number in range(6)]
    # What was rejected before is no news: until then Prometheus has to have seen that none of these is.
    wait_for("the keys to be counted", lambda: rig.servers[0].answers('byok_failing_credentials{provider="xai"} == 0'))
    for credential_id in keys:
        report = {"outcome": "rejected", "at": _ago(timedelta(0)), "detail": "Incorrect API key provided"}
        rig.stack.registry.post(f"/v1/credentials/{credential_id}/reports", json=report).raise_for_status()
    yield


@contextmanager
def _a_key_is_added_as_of_an_hour_ago(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization("pro")
    events = 5 * MANY
    rig.publish(*(node_call(org_id) for _ in range(events)))
    assert len(rig.stack.settled(org_id, events)) == events
    rig.stack.add_key(org_id, "personal", "ada", "anthropic", since=_ago(timedelta(hours=1)))
    yield


@contextmanager
def _a_card_drops_a_model_that_was_used(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization()
    since = _ago(timedelta(0))
    rig.publish(node_call(org_id, data={"provider": "openai", "model": "gpt-5"}))
    rig.stack.settled(org_id, 1)
    newest = Path(services.key_registry.rate_cards.__file__).parent / "2026-11-01.json"
    card = json.loads(newest.read_text()) | {"card": "2026-without-gpt-5", "effective_from": since}
    del card["body"]["models"]["openai"]["gpt-5"]
    file = rig.textfiles.parent / "card.json"
    file.write_text(json.dumps(card))
    done = rig.byok("rate-card", "publish", str(file), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    yield


@contextmanager
def _a_worker_is_killed(rig: Rig) -> Iterator[None]:
    rig.worker.kill()
    yield
    rig.worker.start()


@contextmanager
def _a_worker_goes_away_and_comes_back(rig: Rig) -> Iterator[None]:
    rig.worker.kill()
    time.sleep(2)
    rig.worker.start()
    yield
    rig.worker.wait_ready()


@contextmanager
def _the_registry_hangs(rig: Rig) -> Iterator[None]:
    with rig.held("registry"):
        yield


@contextmanager
def _somebody_locks_the_table_of_entries(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization("pro")
    rig.publish(*(node_call(org_id) for _ in range(10)))
    rig.stack.settled(org_id, 10)
    with rig.as_superuser("ledger") as admin, admin.transaction():
        admin.execute("LOCK TABLE ledger.entry IN EXCLUSIVE MODE")
        rig.stack.add_key(org_id, "personal", "ada", "anthropic", since=_ago(timedelta(hours=1)))
        for number in range(12_000):
            value = json.dumps(node_call(org_id)).encode()
            rig.stack.producer.send(USAGE, value, partition=number % 8)
        yield


@contextmanager
def _somebody_holds_the_feed(rig: Rig) -> Iterator[None]:
    with rig.as_superuser("ledger") as admin, admin.transaction():
        admin.execute("SELECT FROM ledger.feed FOR UPDATE")
        yield


@contextmanager
def _the_broker_hangs_while_a_plan_changes(rig: Rig) -> Iterator[None]:
    with rig.held("tansu"):
        rig.stack.new_organization("pro")
        yield


@contextmanager
def _the_workers_may_not_mark_dead_letters(rig: Rig) -> Iterator[None]:
    rig.run_as_superuser("ledger", "REVOKE UPDATE (relayed_at) ON ledger.dead_letter FROM ledger_service")
    rig.stack.send(b"no event", rig.stack.new_organization())
    yield
    rig.run_as_superuser("ledger", "GRANT UPDATE (relayed_at) ON ledger.dead_letter TO ledger_service")


@contextmanager
def _the_database_hangs(rig: Rig) -> Iterator[None]:
    with rig.held("postgres"):
        yield


@contextmanager
def _an_entry_is_deleted_after_it_was_counted(rig: Rig) -> Iterator[None]:
    org_id = rig.stack.new_organization()
    rig.publish(node_call(org_id))
    rig.stack.settled(org_id, 1)
    with rig.as_superuser("ledger") as admin:
        admin.execute("CREATE TABLE public.taken AS SELECT * FROM ledger.entry WHERE org_id = %s", (org_id,))
        admin.execute("DELETE FROM ledger.entry WHERE org_id = %s", (org_id,))
        found = rig.byok("verify", "--conservation", "--textfile", str(rig.textfiles / "verify.prom"))
        assert found.returncode == 1, found.stdout
        yield
        admin.execute("INSERT INTO ledger.entry SELECT * FROM public.taken")
        admin.execute("DROP TABLE public.taken")


@contextmanager
def _verify_ended_for_the_last_time_yesterday(rig: Rig) -> Iterator[None]:
    # Of this kind there was none before: what was shown within the last week counts.
    file = rig.textfiles.parent / "full.prom"
    rig.byok("verify", "--textfile", str(file))
    long_ago = time.time() - timedelta(hours=27).total_seconds()
    aged = re.sub(r"(timestamp_seconds\{.*\}) .*", rf"\1 {long_ago}", file.read_text())
    shown = rig.textfiles / "full.prom"
    shown.write_text(aged)
    yield
    shown.unlink()


@contextmanager
def _the_ledger_may_not_read_what_is_covered(rig: Rig) -> Iterator[None]:
    rig.run_as_superuser("ledger", "REVOKE SELECT ON ledger.covered_range FROM ledger_service")
    yield
    rig.run_as_superuser("ledger", "GRANT SELECT ON ledger.covered_range TO ledger_service")


@contextmanager
def _the_clock_of_the_registrys_database_is_ahead(rig: Rig) -> Iterator[None]:
    rig.run_as_superuser(
        "registry",
        "CREATE SCHEMA skewed",
        """CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql
           AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 minute' $$""",
        "GRANT USAGE ON SCHEMA skewed TO registry_service",
        "ALTER ROLE registry_service SET search_path = skewed, pg_catalog",
        _END_SESSIONS,
    )
    yield
    rig.run_as_superuser(
        "registry", "ALTER ROLE registry_service RESET search_path", _END_SESSIONS, "DROP SCHEMA skewed CASCADE"
    )


_END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'registry_service'"


@contextmanager
def _it_was_ahead_and_is_right_again(rig: Rig) -> Iterator[None]:
    with _the_clock_of_the_registrys_database_is_ahead(rig):
        wait_for("the registry to take a change", lambda: _takes_a_change(rig))
    yield
    # As the runbook has it.
    rig.run_as_superuser(
        "registry",
        "UPDATE registry.log_head SET last_at = clock_timestamp()",
        "UPDATE registry.audit_head SET last_at = clock_timestamp()",
    )


@contextmanager
def _nobody_works(rig: Rig) -> Iterator[None]:
    rig.traffic.stop()
    yield
    rig.traffic.go_on()


@contextmanager
def _many_producers_send_rubbish(rig: Rig) -> Iterator[None]:
    for _ in range(40 * MANY):
        org_id = f"org-{uuid.uuid4().hex[:12]}"
        rig.stack.producer.send(USAGE, b'{"rubbish": true}', org_id.encode())
    yield
    assert rig.byok("dead-letters", "resume", "--yes").returncode == 0


@contextmanager
def _the_registrys_database_is_restored_from_a_backup(rig: Rig) -> Iterator[None]:
    with rig.as_superuser("postgres") as admin:
        # As long as a database is copied nobody may be on it.
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS false")
        admin.execute(_END_SESSIONS)
        admin.execute("CREATE DATABASE backup TEMPLATE registry OWNER registry_owner")
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS true")
        wait_for("the registry to take a change", lambda: _takes_a_change(rig))
        rig.stack.settle()
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS false")
        admin.execute(_END_SESSIONS)
        admin.execute("ALTER DATABASE registry RENAME TO lost")
        admin.execute("ALTER DATABASE backup RENAME TO registry")
        admin.execute("REVOKE ALL ON DATABASE registry FROM PUBLIC")
        admin.execute("GRANT CONNECT, TEMPORARY ON DATABASE registry TO registry_service")
    yield


def _takes_a_change(rig: Rig) -> bool:
    org_id = rig.stack.new_organization()
    return rig.stack.registry.put(f"/v1/organizations/{org_id}/plan", json={"plan": "pro"}).is_success


def _ago(by: timedelta) -> str:
    return (datetime.now(UTC) - by).isoformat()


# What takes long lasts beside all others, from the beginning.
LASTING = (
    Fault(_keys_of_one_scope_are_deleted, ("SavingsStopped",)),
    Fault(_runners_hand_in_late, ("EventToLedgerSlow", "LatencyBudgetBurnsFast", "LatencyBudgetBurnsSlowly")),
)
# One after the other, the last one for good.
FAULTS = (
    Fault(
        _runners_send_what_cannot_be_booked,
        ("UnpricedModel", "IdentityConflict", "DeadLetterRatioHigh", "OriginFailing"),
    ),
    Fault(_the_door_is_asked_for_a_model_without_a_price, ("UnpricedAtTheDoor",)),
    Fault(_bytes_in_the_log_are_broken, ("UnreadableRecords",)),
    Fault(_runners_use_the_platforms_key_instead_of_their_own, ("CredentialFlags", "PlatformFallbacksSpike")),
    Fault(_a_provider_takes_no_key_any_more, ("KeysRejected",)),
    Fault(_a_key_is_added_as_of_an_hour_ago, ("CorrectionsSpike",)),
    Fault(_a_card_drops_a_model_that_was_used, ("EntriesUnrated",)),
    Fault(_a_worker_is_killed, ("WorkerGone",)),
    Fault(_a_worker_goes_away_and_comes_back, ("ServiceRestarting",)),
    Fault(
        _somebody_locks_the_table_of_entries,
        ("MeteringStalled", "ConsumerLagHigh", "PartitionStalled", "ConvergenceLate"),
    ),
    Fault(_somebody_holds_the_feed, ("FeedBehind",)),
    Fault(_the_broker_hangs_while_a_plan_changes, ("RegistryOutboxStuck", "RegistrySeqBehind")),
    Fault(_the_workers_may_not_mark_dead_letters, ("DeadLetterOutboxStuck",)),
    Fault(_an_entry_is_deleted_after_it_was_counted, ("ConservationBroken", "VerifyFailed")),
    Fault(_verify_ended_for_the_last_time_yesterday, ("VerifyStale",)),
    Fault(_the_ledger_may_not_read_what_is_covered, ("ConservationUnwatched",)),
    Fault(_the_clock_of_the_registrys_database_is_ahead, ("RegistryClocksDisagree",)),
    Fault(_it_was_ahead_and_is_right_again, ("RegistryLogAhead",)),
    Fault(_the_registry_hangs, ("ServiceDown",)),
    Fault(_the_database_hangs, ("DatabaseAway",)),
    Fault(_nobody_works, ("TrafficStopped",)),
    Fault(_many_producers_send_rubbish, ("MeteringPaused",)),
    Fault(_the_registrys_database_is_restored_from_a_backup, ("RegistrySeqAhead",)),
)
