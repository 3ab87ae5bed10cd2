"""A ledger database as migrations make it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.books.migrations import upgrade
from tests.integration.metering.ledgers import Ledger
from tests.integration.real_parts import Database, running_postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_postgres(tmp_path_factory.mktemp("books-postgres")) as postgres:
        yield postgres


@pytest.fixture(scope="session")
def ledger(postgres: Database) -> Ledger:
    postgres.create("books", "ledger_owner")
    ledger = Ledger(postgres, "books")
    upgrade(ledger.owner_dsn)
    return ledger
