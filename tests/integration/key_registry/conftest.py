"""A real PostgreSQL, real brokers and signed tokens for the tests of the key registry."""

from __future__ import annotations

import base64
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import BODY_BYTES_MAX, registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.metrics import registry_metrics
from services.key_registry.migrations import upgrade
from services.key_registry.providers.checks import ProviderChecks
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.settings import RegistrySettings
from services.local.dev_tokens import create_signing_key, sign_token, token_claims
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import Postgres
from services.local.endpoints import Ports
from services.local.processes import StopSwitch, Supervisor
from services.runtime.connections import ConnectionBounds
from services.runtime.rate_limit import RateLimit
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.tokens import TokenVerifier
from services.runtime.web import server
from tests.integration.key_registry.provider_server import ProviderServer, provider_server
from tests.integration.key_registry.proxied_broker import free_port
from tests.integration.key_registry.registry_caller import Api
from tests.integration.real_parts import commit_quickly
from tests.patience import PATIENCE_SECONDS

BODIES = BodyBounds.of(HttpSettings(), BODY_BYTES_MAX)
CONNECTIONS = ConnectionBounds.of(HttpSettings())
UNLIMITED = CallLimits(RateLimit(1e6, 10**6), RateLimit(1e6, 10**6))
PASSWORDS = {role: f"of-{role}" for role in LOGIN_ROLES}
_numbers = itertools.count(1)


class Database(NamedTuple):
    """One migrated registry database: as its owner, and as the service."""

    admin_dsn: str
    dsn: str

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a statement finds, seen by the owner."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, int]]:
    folder, port = tmp_path_factory.mktemp("registry-postgres"), Ports.free_block().postgres
    supervisor = Supervisor(folder, StopSwitch())
    server = Postgres(folder / "postgres", port, "made-up", dict(os.environ))
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        server.initialize(supervisor, deadline)
        child = supervisor.start(server.program())
        supervisor.wait_until(server.answers, deadline, lambda: child.report("does not answer"))
        with server.connect() as admin:
            prepare_databases(admin, PASSWORDS)
            commit_quickly(admin)
        yield server, port
    finally:
        supervisor.stop()
        server.close()


@pytest.fixture(scope="session")
def new_database(postgres: tuple[Postgres, int]) -> Callable[[], Database]:
    """Makes an empty, migrated database: a copy, which takes a tenth of the time that our migrations take."""
    server, port = postgres

    def created(name: str, template: str) -> Database:
        with server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER registry_owner")
        roles = ("registry_owner", "registry_service")
        return Database(*(f"postgresql://{role}:{PASSWORDS[role]}@127.0.0.1:{port}/{name}" for role in roles))

    upgrade(created("registry_empty", "template1").admin_dsn)
    return lambda: created(f"registry_{next(_numbers)}", "registry_empty")


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Database]) -> Database:
    return new_database()


class Tokens:
    """Tokens of people and services, signed with a key of the test."""

    def __init__(self, folder: Path) -> None:
        self.files = create_signing_key(folder)

    def sign(self, subject: str, org_id: str, scope: str = "", **claims: object) -> dict[str, str]:
        """The headers of a request by that caller."""
        made = token_claims(subject, scope, issued_at=datetime.now(UTC), lifetime=timedelta(hours=1), org_id=org_id)
        return {"Authorization": f"Bearer {sign_token(self.files.key_file, made | claims)}"}

    def person(self, user: str, org_id: str, role: str = "member", **teams: str) -> dict[str, str]:
        """A member or admin of an organization, with roles in teams."""
        return self.sign(user, org_id, org_role=role, teams=teams)

    def service(self, scope: str, org_id: str = "*") -> dict[str, str]:
        """A program with these scopes."""
        return self.sign("some-service", org_id, scope)


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens"))


def write_keyring(path: Path, active: str = "kek-1", *ids: str) -> Path:
    """A keyring file whose keys follow from their ids."""
    keys = {name: base64.b64encode(name.encode().ljust(32, b".")).decode() for name in {active, *ids}}
    path.write_text(json.dumps({"active": active, "keys": keys}))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def kek_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keyring(tmp_path_factory.mktemp("kek") / "kek.json")


@pytest.fixture(scope="session")
def settings_for(tokens: Tokens, kek_file: Path) -> Callable[..., RegistrySettings]:
    """The settings of a registry on a database."""

    def make(database: Database, **more: Any) -> RegistrySettings:
        return RegistrySettings(
            registry_dsn=SecretStr(database.dsn),
            kek_file=kek_file,
            jwt_jwks_file=tokens.files.jwks_file,
            **more,
        )

    return make


@pytest.fixture(scope="module")
def providers() -> Iterator[ProviderServer]:
    """The providers that the module's registry asks."""
    with provider_server() as server:
        yield server


@pytest.fixture(scope="module")
def registry(database: Database, kek_file: Path, providers: ProviderServer) -> Iterator[Registry]:
    """The use cases on the module's database, with both packaged cards published."""
    engine = open_engine(database.dsn)
    registry = Registry(sessions_on(engine), load_keyring(kek_file), checks=ProviderChecks(providers.base_urls, 10))
    for document in packaged_cards():
        publish_rate_card(registry.sessions, document)
    yield registry
    engine.dispose()


@pytest.fixture(scope="module")
def client(registry: Registry, database: Database, settings_for: Callable[..., RegistrySettings]) -> TestClient:
    """The real application, without a server around it."""
    verifier = TokenVerifier(settings_for(database))
    app = registry_app(registry, verifier, registry_metrics(registry.sessions), {}, UNLIMITED, BODIES)
    return TestClient(app, client=("203.0.113.9", 50_000), raise_server_exceptions=False)


@pytest.fixture
def org() -> str:
    """An organization of the test's own."""
    return f"org-{next(_numbers)}"


@contextmanager
def served(app: FastAPI, trusted_proxies: str | None = None) -> Iterator[str]:
    """The application behind the server that it has in production; yields its URL."""
    port = free_port()
    running = server(app, "127.0.0.1", port, trusted_proxies, bounds=CONNECTIONS)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not running.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert running.started
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(PATIENCE_SECONDS)


@pytest.fixture
def api(client: TestClient, tokens: Any, org: str) -> Api:
    return Api(client, tokens, org)


@pytest.fixture
def enterprise(api: Api) -> Api:
    assert api.plan("enterprise").status_code == 200
    return api
