"""A registry whose database takes no writes says so, and is ready again once it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from services.key_registry.api.routes import registry_app
from services.key_registry.database.sessions import open_engine, sessions_on, watch_writes
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.log.relay import OutboxRelay
from services.key_registry.main import readiness
from services.key_registry.metrics import registry_metrics
from services.key_registry.rate_cards import packaged_cards
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import BODIES, UNLIMITED, Database
from tests.integration.key_registry.registry_caller import Api, refused

FULL = """
CREATE FUNCTION registry.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER disk_is_full BEFORE INSERT ON registry.log FOR EACH STATEMENT EXECUTE FUNCTION registry.disk_is_full()
"""
ROOM = "DROP TRIGGER disk_is_full ON registry.log"
READ_ONLY = """
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
END $$
"""
WRITABLE = READ_ONLY.replace("= on", "= off")


@pytest.fixture
def own_database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture
def engine(own_database: Database) -> Iterator[Engine]:
    engine = open_engine(own_database.dsn)
    yield engine
    engine.dispose()


@pytest.fixture
def own_api(
    engine: Engine, own_database: Database, kek_file: Path, settings_for: Callable[..., Any], tokens: Any, org: str
) -> Iterator[Api]:
    registry = Registry(sessions_on(engine), load_keyring(kek_file))
    for document in packaged_cards():
        publish_rate_card(registry.sessions, document)
    settings = settings_for(own_database)
    checks = readiness(registry, OutboxRelay(settings), watch_writes(engine))
    # The relay is not started, so what it has to say is the same all the time.
    del checks["outbox"]  # type: ignore[attr-defined]
    app = registry_app(
        registry, TokenVerifier(settings), registry_metrics(registry.sessions), checks, UNLIMITED, BODIES
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(client, tokens, org)


def _missing(api: Api) -> dict[str, str]:
    answer = api.client.get("/readyz")
    missing: dict[str, str] = answer.json().get("missing", {})
    assert answer.status_code == (503 if missing else 200)
    return missing


@pytest.mark.parametrize(
    ("end_of_writes", "back", "code"),
    [(FULL, ROOM, "DiskFull, SQLSTATE 53100"), (READ_ONLY, WRITABLE, "ReadOnlySqlTransaction, SQLSTATE 25006")],
    ids=["disk full", "read-only"],
)
def test_a_registry_that_cannot_write_is_not_ready_until_it_can(
    end_of_writes: str, back: str, code: str, own_api: Api, own_database: Database, engine: Engine
) -> None:
    def administer(statement: str) -> None:
        with psycopg.connect(own_database.admin_dsn, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(statement)
        # What a setting says counts for new sessions alone.
        engine.dispose()

    assert own_api.plan("pro").status_code == 200
    assert _missing(own_api) == {}
    administer(end_of_writes)
    refused(own_api.plan("enterprise"), 503, "database_unavailable")
    assert _missing(own_api) == {"writes": f"writing to the database failed the last time ({code})"}
    # What reads is answered all the same.
    assert own_api.ask("resolve").status_code == 200
    assert set(_missing(own_api)) == {"writes"}
    administer(back)
    assert own_api.plan("enterprise").status_code == 200
    assert _missing(own_api) == {}
