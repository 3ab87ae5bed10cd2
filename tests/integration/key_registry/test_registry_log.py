"""The log under concurrency: no gaps, commit order, and never two active keys in one slot."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from pydantic import SecretStr

from schemas.registry_changes import REGISTRY_CHANGE, CredentialChange
from services.cli.rate_card.commands import check
from services.domain.permissions import Caller
from services.domain.rate_card import InvalidRateCard
from services.domain.scope import Plan, Scope, ScopeType
from services.key_registry.database.credentials import CardShelf
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.database.tables import RateCardRow
from services.key_registry.handlers.cards import (
    RateCardConflict,
    list_providers,
    publish_rate_card,
    published_cards,
)
from services.key_registry.handlers.credentials import NewCredential, add_credential, revoke_credential
from services.key_registry.handlers.plans import set_plan
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.log.changes import rate_card_change
from services.key_registry.log.outbox import LogWriter
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

SERVICE = Caller(
    "service", "*", None, {}, frozenset({"credentials:write", "plans:write", "registry:backdate", "credentials:lease"})
)


def new_key(org: str, team: str, **more: Any) -> NewCredential:
    return NewCredential(org, Scope(ScopeType.TEAM, team), "openai", SecretStr("sk-made-up-for-the-test"), **more)


def together(calls: list[Callable[[], object]]) -> list[object]:
    """What each call answers, or the Refusal it raises, when all start at the same instant."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        start.wait()
        try:
            return call()
        except Refusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_concurrent_writers_leave_no_gap_and_commit_in_order(registry: Registry, database: Any, org: str) -> None:
    set_plan(registry, SERVICE, org, Plan.PRO)

    def work(number: int) -> Callable[[], object]:
        def add_and_revoke() -> None:
            for turn in range(5):
                view = add_credential(registry, SERVICE, new_key(org, f"team-{number}-{turn}"))
                revoke_credential(registry, SERVICE, view.credential_id)

        return add_and_revoke

    # Whoever reads the log at any moment sees a prefix of it, because commit order is the order of seq.
    prefixes: list[tuple[int, int]] = []
    done = threading.Event()

    def watch() -> None:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            while not done.is_set():
                row = connection.execute("SELECT count(*), coalesce(max(seq), 0) FROM registry.log").fetchone()
                prefixes.append(row)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = together([work(number) for number in range(8)])
    done.set()
    watcher.join()
    assert answers == [None] * 8
    assert all(count == last for count, last in prefixes)
    rows = database.rows("SELECT seq, key, payload, changed_at FROM registry.log ORDER BY seq")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert [row[3] for row in rows] == sorted({row[3] for row in rows})
    for seq, key, payload, changed_at in rows:
        message = REGISTRY_CHANGE.validate_json(payload)
        assert (message.seq, message.key, message.changed_at) == (seq, key, changed_at)


def test_of_two_keys_for_one_slot_at_once_one_is_refused(registry: Registry, database: Any, org: str) -> None:
    set_plan(registry, SERVICE, org, Plan.PRO)
    for turn in range(5):
        new = new_key(org, f"team-{turn}")
        answers = together([partial(add_credential, registry, SERVICE, new)] * 4)
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [refusal.code for refusal in refusals] == [Code.CREDENTIAL_EXISTS] * 3
    assert database.rows("SELECT count(*) FROM registry.credential WHERE org_id = %s", org) == [(5,)]


def test_a_key_revoked_twice_at_once_ends_once(registry: Registry, database: Any, org: str) -> None:
    set_plan(registry, SERVICE, org, Plan.PRO)
    view = add_credential(registry, SERVICE, new_key(org, "t"))
    together([lambda: revoke_credential(registry, SERVICE, view.credential_id)] * 4)
    key = f"credential:{view.credential_id}"
    assert database.rows("SELECT count(*) FROM registry.log WHERE key = %s", key) == [(2,)]


def test_the_database_itself_refuses_overlaps(registry: Registry, database: Any, org: str) -> None:
    set_plan(registry, SERVICE, org, Plan.PRO)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    view = add_credential(registry, SERVICE, new_key(org, "t", effective_from=start))
    other = add_credential(registry, SERVICE, new_key(org, "u"))
    statement = (
        "INSERT INTO registry.credential_interval (credential_id, slot_id, active_from, active_to)"
        " SELECT credential_id, slot_id, %s, %s FROM registry.credential WHERE credential_id = %s RETURNING 1"
    )
    hour = timedelta(hours=1)
    with pytest.raises(psycopg.errors.ExclusionViolation):
        database.rows(statement, start - hour, start + hour, view.credential_id)
    with pytest.raises(psycopg.errors.ExclusionViolation):
        database.rows(statement, start, None, other.credential_id)
    assert database.rows(statement, start - hour, start, view.credential_id) == [(1,)]
    assert database.rows(statement, start, start + hour, other.credential_id) == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM registry.log RETURNING 1",
        "UPDATE registry.log SET payload = '' RETURNING 1",
        "UPDATE registry.rate_card SET body = '{}' RETURNING 1",
    ],
)
def test_the_log_is_append_only_even_for_its_owner(registry: Registry, database: Any, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.rows(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM registry.credential",
        "DELETE FROM registry.secret_version",
        "UPDATE registry.credential SET org_id = 'x'",
        "UPDATE registry.credential_interval SET active_from = now()",
        "UPDATE registry.log SET payload = ''",
        "TRUNCATE registry.log",
        "ALTER TABLE registry.credential DISABLE TRIGGER ALL",
        "CREATE TABLE registry.mine (id int)",
    ],
)
def test_the_service_may_only_what_it_needs(registry: Registry, database: Any, statement: str) -> None:
    with psycopg.connect(database.dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_time_never_goes_back_in_the_log(registry: Registry, database: Any, org: str) -> None:
    set_plan(registry, SERVICE, org, Plan.PRO)
    view = add_credential(registry, SERVICE, new_key(org, "t"))
    # As if the clock had been set back by half a second after the key was added.
    ahead = "UPDATE registry.log_head SET last_at = last_at + interval '0.5 seconds' RETURNING last_at"
    ((last_at,),) = database.rows(ahead)
    revoke_credential(registry, SERVICE, view.credential_id)
    again = add_credential(registry, SERVICE, new_key(org, "t"))
    (ended,) = database.rows(
        "SELECT active_to FROM registry.credential_interval WHERE credential_id = %s", view.credential_id
    )
    assert last_at < ended[0] < again.active[0].start


def test_a_published_card_is_left_alone_and_never_changed(registry: Registry, database: Any) -> None:
    head = database.rows("SELECT last_seq FROM registry.log_head")
    card = packaged_cards()[0]
    assert publish_rate_card(registry.sessions, card) is False
    with pytest.raises(RateCardConflict, match=card.card):
        publish_rate_card(registry.sessions, card._replace(body=card.body | {"usd_per_credit": "0.01"}))
    assert database.rows("SELECT last_seq FROM registry.log_head") == head


def test_a_card_under_which_an_event_would_not_fit_into_the_ledger_is_not_published(
    registry: Registry, database: Any
) -> None:
    head = database.rows("SELECT last_seq FROM registry.log_head")
    card = packaged_cards()[1]
    line = card.body["models"]["openai"]["gpt-5"] | {"output_usd_per_mtok": "1000000"}
    dear = card._replace(
        card="dear", body=card.body | {"usd_per_credit": "0.001", "models": {"openai": {"gpt-5": line}}}
    )
    with pytest.raises(InvalidRateCard, match=r"^models\.openai\.gpt-5: 10,000,000,000 tokens in and as many out"):
        publish_rate_card(registry.sessions, dear)
    assert database.rows("SELECT last_seq FROM registry.log_head") == head


def test_a_place_that_no_card_has_is_not_published_and_is_ignored_where_it_was(new_database: Callable[[], Any]) -> None:
    engine = open_engine(new_database().dsn)
    sessions, card = sessions_on(engine), packaged_cards()[0]
    odd = card._replace(body=card.body | {"note": "x", "tool_call": card.body["tool_call"] | {"credit": "9"}})
    with pytest.raises(InvalidRateCard) as refused:
        publish_rate_card(sessions, odd)
    assert list(map(str, refused.value.faults)) == [
        "tool_call.credit: is no place of a rate card; did you mean credits?",
        "note: is no place of a rate card",
    ]
    assert published_cards(sessions) == []
    # As an earlier release published it: it is history, read as ever, and nothing is said against the same again.
    with sessions.begin() as session:
        log = LogWriter(session)
        session.add(RateCardRow(**odd._asdict(), seq=log.append(rate_card_change, odd)))
    assert published_cards(sessions) == [odd]
    assert publish_rate_card(sessions, odd) is False
    with sessions.begin() as session:
        assert CardShelf().cards(session) == (card.parse(),)
    engine.dispose()


def test_a_card_that_is_published_is_found_while_another_holds_the_log(new_database: Callable[[], Any]) -> None:
    """Every registry looks for those that ship with it, also one that is stopped the next moment."""
    database = new_database()
    engine = open_engine(database.dsn)
    sessions, card = sessions_on(engine), packaged_cards()[0]
    assert publish_rate_card(sessions, card) is True
    with sessions.begin() as session:
        LogWriter(session)
        assert publish_rate_card(sessions, card) is False
        with pytest.raises(RateCardConflict):
            publish_rate_card(sessions, card._replace(body=card.body | {"tiers": {}}))
    engine.dispose()


def test_of_published_cards_with_one_date_the_last_is_in_force(
    new_database: Callable[[], Any],
    kek_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = new_database()
    engine = open_engine(database.dsn)
    registry = Registry(sessions_on(engine), load_keyring(kek_file))
    for document in packaged_cards()[:2]:
        publish_rate_card(registry.sessions, document)
    last = packaged_cards()[1]
    # By name it comes first; in force is what was published last.
    again = last._replace(card="0", body=last.body | {"own_key": last.body["own_key"] | {"providers": ["xai"]}})
    assert publish_rate_card(registry.sessions, again) is True
    found = list_providers(registry)
    assert (found.rate_card, found.providers) == ("0", ("xai",))
    engine.dispose()
    # A card for the same date is held against it.
    monkeypatch.setenv("BYOK_REGISTRY_DSN", database.dsn)
    file = tmp_path / "card.json"
    file.write_text(json.dumps({"card": "new", "effective_from": "2026-11-01T00:00:00Z", "body": again.body}))
    capsys.readouterr()
    check(file, json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["against"], said["changes"]) == ("0", [])
    # A name is taken for ever; the command line says so in the words of the registry.
    file.write_text(json.dumps({"card": "0", "effective_from": "2026-11-02T00:00:00Z", "body": again.body}))
    with pytest.raises(typer.Exit):
        check(file)
    assert "the rate card 0 is published with another content" in capsys.readouterr().err


def test_messages_say_what_the_contract_says(registry: Registry, database: Any, org: str) -> None:
    start = datetime(2026, 4, 27, tzinfo=UTC)
    set_plan(registry, SERVICE, org, Plan.PRO, start)
    view = add_credential(registry, SERVICE, new_key(org, "t", effective_from=start, label="not for the log"))
    statement = "SELECT payload FROM registry.log WHERE key = %s"
    ((payload,),) = database.rows(statement, f"credential:{view.credential_id}")
    message = REGISTRY_CHANGE.validate_json(payload)
    assert isinstance(message, CredentialChange)
    scope, active = '"scope":{"type":"team","id":"t"}', '"active":[{"from":"2026-04-27T00:00:00Z","to":null}]'
    tail = f'"org_id":"{org}",{scope},"provider":"openai","hint":"…test",{active}}}'
    assert payload.decode().endswith(tail)
    ((plan,),) = database.rows(statement, f"plan:{org}")
    assert plan.decode().endswith(
        f'"org_id":"{org}","plans":[{{"from":"2026-04-27T00:00:00Z","to":null,"plan":"pro"}}]}}'
    )
