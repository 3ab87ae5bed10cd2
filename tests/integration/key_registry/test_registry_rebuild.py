"""`byok registry rebuild`: a database that lost changes is brought up to the ledger's history of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from services.cli import registry as command_of_rebuild
from services.key_registry.api.routes import registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers import rebuilding
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.log.comparison import history_of
from services.key_registry.metrics import registry_metrics
from services.key_registry.rate_cards import packaged_cards
from services.runtime.command_failed import AWAY
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import BODIES, UNLIMITED, Database
from tests.integration.key_registry.older_copies import copied, follow, new_ledger
from tests.integration.key_registry.proxied_broker import free_port
from tests.typed import typed

SCOPES = "credentials:write credentials:lease plans:write registry:backdate"
_LOG = "SELECT seq, key, payload, changed_at FROM registry.log ORDER BY seq"
_HEAD = "SELECT last_seq, last_at FROM registry.log_head"
_PLANS = "SELECT org_id, periods, seq FROM registry.plan_history ORDER BY 1"
_CARDS = "SELECT card, effective_from, body, seq FROM registry.rate_card ORDER BY 1"
_SLOTS = "SELECT c.credential_id, s.org_id, s.scope_type, s.scope_id, s.provider FROM registry.credential c"
_SLOTS += " JOIN registry.slot s USING (slot_id) ORDER BY 1"
_INTERVALS = "SELECT credential_id, active_from, active_to FROM registry.credential_interval ORDER BY 1, 2, 3"
_CREDENTIALS = "SELECT credential_id, created_seq, created_at, hint FROM registry.credential ORDER BY 1"
_DERIVED = (_LOG, _HEAD, _PLANS, _CARDS, _SLOTS, _INTERVALS, _CREDENTIALS)
_SECRETS = """
SELECT credential_id FROM registry.secret_version WHERE num_nonnulls(wrapped_key, ciphertext) > 0 ORDER BY 1
"""


class Served:
    """A registry's API on one database."""

    def __init__(self, database: Database, settings_for: Callable[..., Any], kek_file: Any, headers: Any) -> None:
        self.database = database
        self.engine = open_engine(database.dsn)
        registry = Registry(sessions_on(self.engine), load_keyring(kek_file))
        for document in packaged_cards():
            publish_rate_card(registry.sessions, document)
        verifier = TokenVerifier(settings_for(database))
        app = registry_app(registry, verifier, registry_metrics(registry.sessions), {}, UNLIMITED, BODIES)
        self.http = TestClient(app, headers=headers, raise_server_exceptions=False)

    def plan(self, org_id: str, plan: str, **more: str) -> None:
        self.http.put(f"/v1/organizations/{org_id}/plan", json={"plan": plan, **more}).raise_for_status()

    def add(self, team: str, key: str) -> str:
        body = {"org_id": "acme", "scope": {"type": "team", "id": team}, "provider": "openai", "api_key": key}
        return str(self.http.post("/v1/credentials", json=body).raise_for_status().json()["credential_id"])

    def rotate(self, credential_id: str, key: str) -> None:
        self.http.post(f"/v1/credentials/{credential_id}/rotate", json={"api_key": key}).raise_for_status()

    def switch(self, credential_id: str, *, on: bool) -> None:
        self.http.patch(f"/v1/credentials/{credential_id}", json={"enabled": on}).raise_for_status()

    def end(self, credential_id: str) -> None:
        self.http.delete(f"/v1/credentials/{credential_id}").raise_for_status()

    def statuses(self) -> dict[str, str]:
        items = self.http.get("/v1/credentials", params={"org_id": "acme"}).json()["items"]
        return {item["scope"]["id"]: item["status"] for item in items}

    def lease(self, team: str) -> Any:
        body = {"org_id": "acme", "user_id": "uma", "team_id": team, "provider": "openai"}
        return self.http.post("/v1/lease", json=body).json()


@pytest.fixture
def serve(settings_for: Callable[..., Any], kek_file: Any, tokens: Any) -> Iterator[Callable[[Database], Served]]:
    served: list[Served] = []

    def make(database: Database) -> Served:
        served.append(Served(database, settings_for, kek_file, tokens.service(SCOPES)))
        return served[-1]

    yield make
    for each in served:
        each.engine.dispose()


class Story:
    """A registry with a history, a copy from its middle, and a ledger that has followed it to its end."""

    def __init__(
        self, serve: Callable[[Database], Served], new_database: Callable[[], Database], postgres: Any
    ) -> None:
        self.current = serve(new_database())
        now = self.current
        now.plan("acme", "pro")
        self.ids = {team: now.add(team, f"sk-made-up-for-{team}-1111") for team in TEAMS_BEFORE}
        now.switch(self.ids["off"], on=False)
        self.older = copied(postgres, now.database)
        now.plan("acme", "pro", effective_from="2026-10-01T00:00:00Z")
        now.plan("brio", "enterprise")
        now.end(self.ids["ended"])
        now.rotate(self.ids["rotated"], "sk-made-up-for-rotated-2222")
        now.switch(self.ids["switched"], on=False)
        now.switch(self.ids["switched"], on=True)
        now.switch(self.ids["hidden"], on=False)
        now.rotate(self.ids["hidden"], "sk-another-with-the-same-end-1111")
        now.switch(self.ids["hidden"], on=True)
        now.end(self.ids["off"])
        self.ids |= {team: now.add(team, f"sk-made-up-for-{team}-1111") for team in ("new", "new-ended")}
        now.end(self.ids["new-ended"])
        self.ids["after"] = now.add("ended", "sk-made-up-for-ended-3333")
        self.ledger = new_ledger(postgres, now.database)


TEAMS_BEFORE = ("kept", "ended", "rotated", "switched", "hidden", "off")
LOST = {"rotated", "hidden", "new", "after"}


@pytest.fixture
def story(serve: Callable[[Database], Served], new_database: Callable[[], Database], postgres: Any) -> Story:
    return Story(serve, new_database, postgres)


def byok(database: Database, ledger: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(database, ledger, "registry", "rebuild", "--without-topic", *arguments)


def command(database: Database, ledger: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return typed(*arguments, settings={"BYOK_REGISTRY_DSN": database.dsn, "BYOK_LEDGER_DSN": ledger.dsn})


def state(database: Database, *statements: str) -> list[Any]:
    return [database.rows(statement) for statement in statements or _DERIVED]


def rebuilt(story: Story, database: Database) -> rebuilding.Rebuilt:
    engine = open_engine(database.dsn)
    try:
        return rebuilding.rebuild(
            sessions_on(engine), history_of(story.ledger.dsn), dry_run=False, report=lambda _done, _all: None
        )
    finally:
        engine.dispose()


@pytest.mark.slow
def test_an_older_database_becomes_what_the_log_says(story: Story, serve: Callable[[Database], Served]) -> None:
    before = state(story.older)
    dry = byok(story.older, story.ledger, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "14 changes are missing" in dry.stdout
    assert state(story.older) == before
    done = byok(story.older, story.ledger, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    counts = {name: told[name] for name in ("changes", "holes", "plans", "credentials", "added", "ended", "newly_lost")}
    assert tuple(counts.values()) == (14, 0, 2, 8, 3, 3, 4)
    assert set(told["lost"]) == {story.ids[name] for name in LOST}
    assert state(story.older) == state(story.current.database)
    # A key that was ended is gone, as its owner was promised; one that was replaced is not what is used any more.
    assert {row[0] for row in story.older.rows(_SECRETS)} == {story.ids["kept"], story.ids["switched"]}

    served = serve(story.older)
    # The team "ended" has a new key, which is shown after the deleted one.
    deleted = dict.fromkeys(("off", "new-ended"), "deleted")
    lost_ones = dict.fromkeys(("rotated", "hidden", "new", "ended"), "lost")
    assert served.statuses() == {"kept": "active", "switched": "active"} | deleted | lost_ones
    lost = served.http.get("/v1/credentials", params={"org_id": "acme", "status": "lost"}).json()["items"]
    assert {item["credential_id"] for item in lost} == set(told["lost"])
    assert served.lease("kept")["secret"] == "sk-made-up-for-kept-1111"
    assert served.lease("switched")["secret"] == "sk-made-up-for-switched-1111"
    refused = served.lease("new")
    assert (refused["status"], refused["code"]) == (503, "credential_lost")
    # It applies all the same, for events are priced by the log.
    asked = {"org_id": "acme", "user_id": "uma", "team_id": "new", "provider": "openai"}
    assert served.http.post("/v1/resolve", json=asked).json()["credential_id"] == story.ids["new"]
    rows = served.http.get("/v1/audit", params={"org_id": "acme", "action": "credential.lost"}).json()["items"]
    assert {row["credential_id"] for row in rows} == set(told["lost"])
    # Its owner enters it again.
    served.rotate(story.ids["new"], "sk-made-up-for-new-4444")
    assert served.lease("new")["secret"] == "sk-made-up-for-new-4444"
    assert served.statuses()["new"] == "active"


def test_an_empty_database_gets_all_of_it(
    story: Story, serve: Callable[[Database], Served], new_database: Callable[[], Database]
) -> None:
    empty = new_database()
    assert rebuilt(story, empty).changes == len(story.current.database.rows(_LOG))
    assert state(empty) == state(story.current.database)
    served = serve(empty)
    assert set(served.statuses().values()) == {"lost", "deleted"}


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_goes_on_in_the_same_log(
    story: Story, serve: Callable[[Database], Served]
) -> None:
    rebuilt(story, story.older)
    before = state(story.older, *_DERIVED, "SELECT * FROM registry.audit ORDER BY seq")
    again = byok(story.older, story.ledger)
    assert again.returncode == 0, again.stderr
    assert "has every change that the ledger has" in again.stdout
    assert state(story.older, *_DERIVED, "SELECT * FROM registry.audit ORDER BY seq") == before
    serve(story.older).plan("new", "pro")
    assert story.older.rows(_HEAD)[0][0] == story.current.database.rows(_HEAD)[0][0] + 1


@pytest.mark.slow
def test_lost_credentials_are_ended_when_an_operator_says_so(story: Story, serve: Callable[[Database], Served]) -> None:
    rebuilt(story, story.older)
    assert byok(story.older, story.ledger, "--end-lost").returncode == 1, "it asks, and nobody answers"
    done = byok(story.older, story.ledger, "--end-lost", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lost_ended"] == len(LOST)
    served = serve(story.older)
    assert {name for name, status in served.statuses().items() if status != "deleted"} == {"kept", "switched"}
    follow(story.ledger, story.older)
    assert rebuilt(story, story.older).lost == ()


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_the_database_as_it_was(story: Story) -> None:
    before = state(story.older)

    def killed(done: int, _all: int) -> None:
        if done > 3:
            raise KeyboardInterrupt

    engine = open_engine(story.older.dsn)
    with pytest.raises(KeyboardInterrupt):
        rebuilding.rebuild(sessions_on(engine), history_of(story.ledger.dsn), dry_run=False, report=killed)
    engine.dispose()
    assert state(story.older) == before
    rebuilt(story, story.older)
    assert state(story.older) == state(story.current.database)


def test_where_the_topic_cannot_be_asked_nothing_is_brought_back(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have more than the ledger, and a number would be given twice."""
    monkeypatch.setattr(command_of_rebuild, "_TOPIC_SECONDS", 0.5)
    settings = {
        "BYOK_REGISTRY_DSN": story.older.dsn,
        "BYOK_LEDGER_DSN": story.ledger.dsn,
        "BYOK_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
    }
    before = state(story.older)
    refused = typed("registry", "rebuild", "--yes", settings=settings)
    assert (refused.returncode, "--without-topic" in refused.stderr) == (AWAY, True), refused.stderr
    assert state(story.older) == before


@pytest.mark.slow
def test_a_database_that_went_its_own_way_is_left_alone(story: Story, serve: Callable[[Database], Served]) -> None:
    serve(story.older).plan("acme", "free")
    before = state(story.older)
    refused = byok(story.older, story.ledger, "--yes")
    assert (refused.returncode, "is another one" in refused.stderr) == (1, True), refused.stderr
    assert state(story.older) == before


def test_no_card_is_published_on_an_older_database(story: Story, tmp_path: Path) -> None:
    """By a command, which knows nothing of what a registry has found out, or has not yet."""
    file, card = tmp_path / "card.json", packaged_cards()[-1]
    said = {"card": "2027-01-01", "effective_from": "2027-01-01T00:00:00Z", "body": card.body}
    file.write_text(json.dumps(said))
    before = state(story.older)
    refused = command(story.older, story.ledger, "rate-card", "publish", str(file), "--yes")
    assert (refused.returncode, "byok registry rebuild" in refused.stderr) == (1, True), refused.stderr
    assert state(story.older) == before
    rebuilt(story, story.older)
    assert command(story.older, story.ledger, "rate-card", "publish", str(file), "--yes").returncode == 0


@pytest.mark.slow
def test_what_only_the_older_database_still_has_counts_too(story: Story) -> None:
    """As where the ledger began with a topic that was compacted."""
    with psycopg.connect(story.ledger.admin_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE ledger.registry_change DISABLE TRIGGER USER")
        owner.execute("DELETE FROM ledger.registry_change WHERE seq BETWEEN 2 AND 8")
    assert rebuilt(story, story.older).holes == 0
    assert state(story.older) == state(story.current.database)


def test_where_states_are_missing_no_key_is_taken_for_the_one_in_use(
    story: Story, serve: Callable[[Database], Served]
) -> None:
    """The topic had compacted a rotation away before it was read: what is left shows the key switched off and on."""
    key = f"credential:{story.ids['hidden']}"
    (rotation,) = story.ledger.rows(
        "SELECT seq FROM ledger.registry_change WHERE key = %s ORDER BY seq DESC OFFSET 1 LIMIT 1", key
    )[0]
    with psycopg.connect(story.ledger.admin_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE ledger.registry_change DISABLE TRIGGER USER")
        owner.execute("DELETE FROM ledger.registry_change WHERE seq = %s", (rotation,))
    assert rebuilt(story, story.older).holes == 1
    assert serve(story.older).statuses()["hidden"] == "lost"
