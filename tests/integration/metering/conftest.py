"""A ledger database and a broker for the parts of metering; every test has a database and a cluster id of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from schemas.topics import USAGE_EVENTS
from services.ledger.migrations import upgrade
from services.runtime.broker import create_topics
from tests.integration.real_parts import Database, running_broker, running_postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_postgres(tmp_path_factory.mktemp("metering-postgres")) as database:
        yield database


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("metering-broker")) as bootstrap:
        yield bootstrap


class Ledger:
    """An empty, migrated ledger database."""

    def __init__(self, postgres: Database, name: str) -> None:
        self.dsn = postgres.dsn("ledger_service", name)
        self.owner_dsn = postgres.dsn("ledger_owner", name)

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """What a statement finds."""
        with psycopg.connect(self.owner_dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(statement, parameters).fetchall()

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, by event, revision and kind; a reversal before its correction."""
        return self.rows("SELECT * FROM ledger.entry ORDER BY event_id, revision, kind DESC")


@pytest.fixture
def ledger(postgres: Database) -> Ledger:
    name = f"ledger_{next(_numbers)}"
    postgres.create(name, "ledger_owner")
    ledger = Ledger(postgres, name)
    upgrade(ledger.owner_dsn)
    return ledger


@pytest.fixture
def topic(broker: str) -> str:
    """A topic of usage events that no other test writes to."""
    own = USAGE_EVENTS._replace(name=f"usage-events-{next(_numbers)}", partitions=2)
    create_topics(broker, [own])
    return own.name
