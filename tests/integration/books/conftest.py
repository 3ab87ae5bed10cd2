"""A ledger database as migrations make it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.books.migrations import upgrade
from tests.integration.metering.ledgers import Ledger
from tests.integration.real_parts import running_postgres


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with running_postgres(tmp_path_factory.mktemp("books-postgres")) as postgres:
        postgres.create("books", "ledger_owner")
        ledger = Ledger(postgres, "books")
        upgrade(ledger.owner_dsn)
        yield ledger
