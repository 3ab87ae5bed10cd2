"""A real PostgreSQL and a real broker for the ledger's tests; each test has a database of its own."""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from services.books import migrations
from services.ledger.main import build_app
from services.ledger.settings import LedgerSettings
from services.local.children import listens
from services.local.dev_tokens import create_signing_key, sign_token, token_claims
from services.local.embedded.broker import broker_program
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import Postgres
from services.local.endpoints import Ports
from services.local.processes import StopSwitch, Supervisor
from services.metering.sequencer import place_entries
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.ledger.ledger_process import running
from tests.integration.ledger.ledger_seed import Books, seed_company
from tests.integration.real_parts import commit_quickly
from tests.patience import PATIENCE_SECONDS

_PASSWORDS = {role: f"of-{role}" for role in LOGIN_ROLES}


class Stack:
    """Where everything is."""

    def __init__(self, folder, ports, postgres, signing_key):
        self.folder = folder
        self.ports = ports
        self.postgres = postgres
        self.signing_key = signing_key

    def dsn(self, role, database):
        return f"postgresql://{role}:{_PASSWORDS[role]}@{self.ports.address('postgres')}/{database}"

    def settings(self, database, **more):
        return LedgerSettings(
            env="development",
            kafka_bootstrap=more.pop("kafka_bootstrap", self.ports.address("kafka")),
            ledger_dsn=self.dsn("ledger_service", database),
            jwt_jwks_file=self.signing_key.jwks_file,
            **more,
        )

    def token(self, subject="svc", scope="", org_id="*", **more):
        claims = token_claims(subject, scope, issued_at=datetime.now(UTC), lifetime=timedelta(hours=1), org_id=org_id)
        return sign_token(self.signing_key.key_file, claims | more)


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    ports = Ports.free_block()
    supervisor = Supervisor(folder, StopSwitch())
    postgres = Postgres(folder / "postgres", ports.postgres, "made-up", dict(os.environ))
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        postgres.initialize(supervisor, deadline)
        server = supervisor.start(postgres.program())
        broker = supervisor.start(broker_program(ports.kafka, folder, dict(os.environ)))
        supervisor.wait_until(postgres.answers, deadline, lambda: server.report("does not answer"))
        supervisor.wait_until(lambda: listens(ports.kafka), deadline, lambda: broker.report("does not answer"))
        create_topics(KafkaAccess(ports.address("kafka")), replication_factor=1)
        with postgres.connect() as admin:
            prepare_databases(admin, _PASSWORDS)
            commit_quickly(admin)
        stack = Stack(folder, ports, postgres, create_signing_key(folder))
        migrations.upgrade(stack.dsn("ledger_owner", "ledger"))
        yield stack
    finally:
        supervisor.stop()
        postgres.close()


_numbers = itertools.count()


@pytest.fixture
def database(stack):
    """The name of an empty ledger database."""
    name = f"ledger_{next(_numbers)}"
    with stack.postgres.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE ledger OWNER ledger_owner")
    yield name
    with stack.postgres.connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def books(stack, database):
    books = Books(stack.dsn("ledger_owner", database))
    yield books
    books.connection.close()


@pytest.fixture
def company(books):
    seed_company(books)
    return books


@pytest.fixture
def place(stack, database):
    """What a sequencer does; how many entries got places."""

    def place_all(name=database):
        with connect(stack.dsn("ledger_service", name), "test", autocommit=True) as connection:
            return sum(iter(lambda: place_entries(connection), 0))

    return place_all


@pytest.fixture
def placed_company(company, place):
    """The company, all of whose entries have their places, so that they are in sums."""
    place()
    return company


@pytest.fixture
def app(stack, database):
    return build_app(stack.settings(database))


@pytest.fixture
def client(app):
    with TestClient(app, base_url="http://ledger.test") as client:
        yield client


@pytest.fixture
def bearer(stack):
    """Headers with a token: ``bearer("ann", org_id="acme", org_role="member")``."""

    def headers(subject="svc", scope="", **claims):
        return {"Authorization": f"Bearer {stack.token(subject, scope, **claims)}"}

    return headers


@pytest.fixture
def reader(bearer):
    return bearer(scope="ledger:read")


@pytest.fixture
def process(stack, database):
    with running(stack, database) as process:
        yield process
