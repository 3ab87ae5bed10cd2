"""The console over a real ledger on a real PostgreSQL, which it reaches by HTTP; the key registry is away."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import uvicorn
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient

from services.console.main import build_app
from services.console.settings import ConsoleSettings
from services.ledger.main import build_app as build_ledger
from services.local.endpoints import Ports
from tests.integration.ledger.conftest import stack
from tests.integration.ledger.ledger_seed import Books, seed_company
from tests.patience import PATIENCE_SECONDS

__all__ = ["stack"]

_DATABASE = "ledger_of_console"
# What follows from entries: their places and sums.
_DERIVED = (
    *("entry_batch", "entry_position", "feed", "sum_use", "sum_user", "sum_by_hour", "sum_by_day"),
    *("sum_by_user_hour", "sum_by_user_day", "sum_by_user_month"),
)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config):
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def served(app):
    """The URL of an application that is served for as long as the block lasts."""
    port = Ports.free_block().ledger
    server = _Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.listens.wait(PATIENCE_SECONDS)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def seeded(stack):
    """The books of one company, from which every test begins, in a database of our own."""
    with stack.postgres.connect() as admin:
        admin.execute(f"CREATE DATABASE {_DATABASE} TEMPLATE ledger OWNER ledger_owner")
    books = Books(stack.dsn("ledger_owner", _DATABASE))
    seed_company(books)
    books.place()
    with stack.postgres.connect(_DATABASE) as superuser:
        superuser.execute("CREATE SCHEMA kept")
        for table in _DERIVED:
            superuser.execute(f"CREATE TABLE kept.{table} AS TABLE ledger.{table}")
    yield books
    books.connection.close()


@pytest.fixture(scope="session")
def ledger_url(stack, seeded):
    with served(build_ledger(stack.settings(_DATABASE))) as url:
        yield url


@pytest.fixture
def company(stack, seeded):
    """The books, every entry in its place; what a test adds (and gives places by ``place()``) is gone after it."""
    (kept,) = seeded.connection.execute("SELECT array_agg(entry_id) FROM ledger.entry").fetchone()
    yield seeded
    with stack.postgres.connect(_DATABASE) as superuser:
        # The tables are append-only for everybody else.
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("DELETE FROM ledger.dead_letter")
        if superuser.execute("DELETE FROM ledger.entry WHERE entry_id <> ALL (%s)", [kept]).rowcount:
            for table in _DERIVED:
                superuser.execute(f"DELETE FROM ledger.{table}")
                superuser.execute(f"INSERT INTO ledger.{table} OVERRIDING SYSTEM VALUE TABLE kept.{table}")


@pytest.fixture
def settings(stack, ledger_url, tmp_path):
    """Of the console; ``settings(console_cookie_secure=True)`` are others."""
    key_file = tmp_path / "session.key"
    key_file.write_text(Fernet.generate_key().decode())
    key_file.chmod(0o600)

    def made(**more):
        own = {
            "env": "development",
            "jwt_jwks_file": stack.signing_key.jwks_file,
            "ledger_url": ledger_url,
            "registry_url": "http://127.0.0.1:9",
            "console_session_key_file": key_file,
        }
        return ConsoleSettings(**own | more)

    return made


@pytest.fixture
def client(settings):
    with TestClient(build_app(settings()), base_url="http://console.test") as client:
        yield client


@pytest.fixture
def sign_in(client, stack):
    """Signs in with a token: ``sign_in("ann", "", org_id="acme", org_role="member")``."""

    def signed_in(subject="svc", scope="ledger:read", **claims):
        token = stack.token(subject, scope, **claims)
        answer = client.post("/sign-in/token", data={"token": token}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        return token, answer

    return signed_in
