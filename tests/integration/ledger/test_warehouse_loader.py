"""The loader of docs/how-to/load-a-warehouse.md, as it stands there, into DuckDB from a ledger over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import psycopg
import pytest

from services.metering.sequencer import place_entries
from services.runtime.database import connect
from tests.integration.ledger.ledger_process import running
from tests.patience import PATIENCE_SECONDS

(LOADER,) = re.findall(
    r"```python\n(.+?)```",
    (Path(__file__).parents[3] / "docs" / "how-to" / "load-a-warehouse.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


class Warehouse:
    """A file of DuckDB, and the loader that fills it from one ledger or another."""

    def __init__(self, folder, token):
        self.file = folder / "ledger.duckdb"
        self._script = folder / "load.py"
        self._script.write_text(LOADER, encoding="utf-8")
        self._token = token

    def start(self, process, *options):
        environment = os.environ | {"BYOK_LEDGER_URL": f"http://127.0.0.1:{process.port}", "BYOK_TOKEN": self._token}
        return subprocess.Popen([sys.executable, self._script, self.file, *options], env=environment)

    def load(self, process):
        assert self.start(process, "--once").wait(PATIENCE_SECONDS) == 0

    def rows(self, query="SELECT entry_id FROM entry ORDER BY position"):
        with duckdb.connect(self.file, read_only=True) as db:
            return db.execute(query).fetchall()


@pytest.fixture
def warehouse(stack, tmp_path):
    return Warehouse(tmp_path, stack.token(scope="ledger:read"))


@pytest.fixture
def place(stack):
    def place_all(name):
        with connect(stack.dsn("ledger_service", name), "test", autocommit=True) as connection:
            return sum(iter(lambda: place_entries(connection), 0))

    return place_all


def in_the_ledger(books):
    query = "SELECT entry_id FROM ledger.entry_feed ORDER BY position"
    return books.connection.execute(query).fetchall()


def test_it_has_thirty_lines_at_most():
    assert len(LOADER.strip().splitlines()) <= 30


@pytest.mark.slow
def test_it_loads_all_goes_on_after_it_was_killed_and_sums_as_the_ledger_does(
    company, database, process, warehouse, place
):
    place(database)
    warehouse.load(process)
    assert warehouse.rows() == in_the_ledger(company)
    following = warehouse.start(process)
    try:
        for number in range(1_500):
            company.book(f"w{number}", org_id="other" if number % 3 else "acme")
            if number % 100 == 0:
                place(database)
    finally:
        following.kill()
        following.wait()
    place(database)
    warehouse.load(process)
    assert warehouse.rows() == in_the_ledger(company)
    sums = (
        "SELECT org_id, key_source, sum(list_mc)::bigint, sum(charged_mc)::bigint FROM {} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert warehouse.rows(sums.format("entry")) == company.connection.execute(sums.format("ledger.entries")).fetchall()


@pytest.mark.slow
def test_after_a_restore_it_takes_back_what_was_lost_and_is_the_ledger_again(
    stack, company, database, warehouse, place
):
    place(database)
    company.connection.close()
    name = f"{database}_copy"
    with stack.postgres.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (database,))
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {database} OWNER ledger_owner")
    try:
        company.connection = psycopg.connect(stack.dsn("ledger_owner", database), autocommit=True)
        for number in range(20):
            company.book(f"lost-{number}")
        place(database)
        with running(stack, database) as process:
            warehouse.load(process)
        assert warehouse.rows() == in_the_ledger(company)
        company.connection.close()
        company.connection = psycopg.connect(stack.dsn("ledger_owner", name), autocommit=True)
        with running(stack, name) as process:
            # Also before anything is booked.
            warehouse.load(process)
            assert warehouse.rows() == in_the_ledger(company)
            for event_id in ("lost-3", "new"):
                company.book(event_id)
            place(name)
            warehouse.load(process)
            assert warehouse.rows() == in_the_ledger(company)
    finally:
        with stack.postgres.connect() as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
