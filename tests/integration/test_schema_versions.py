"""Which release may begin on which database: the wrong pairs are refused in words, and running programs go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from services.books.migrations import upgrade as upgrade_ledger
from services.books.schema import LEDGER
from services.key_registry.database.schema import REGISTRY
from services.key_registry.migrations import upgrade as upgrade_registry
from services.local.dev_tokens import create_signing_key
from services.local.endpoints import Ports
from services.runtime.schema_version import Schema
from tests.integration.key_registry.conftest import write_keyring
from tests.integration.real_parts import Database, running_postgres
from tests.patience import PATIENCE_SECONDS

PROGRAMS = {"registry": REGISTRY, "metering": LEDGER, "ledger": LEDGER}
UPGRADES: dict[Schema, Callable[[str], None]] = {LEDGER: upgrade_ledger, REGISTRY: upgrade_registry}
LATER = "9999"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_postgres(tmp_path_factory.mktemp("versions")) as database:
        for schema, upgrade in UPGRADES.items():
            upgrade(database.dsn(f"{schema.name}_owner", schema.name))
        yield database


@pytest.fixture
def at_revision(server: Database, request: pytest.FixtureRequest) -> Iterator[Callable[[Schema, str], None]]:
    """Has a database say that it is at another revision."""
    changed: list[Schema] = []

    def change(schema: Schema, revision: str) -> None:
        changed.append(schema)
        with psycopg.connect(server.dsn(f"{schema.name}_owner", schema.name), autocommit=True) as owner:
            owner.execute(f"UPDATE {schema.name}.alembic_version SET version_num = %s", (revision,))

    yield change
    for schema in set(changed):
        change(schema, schema.newest)


def environment(server: Database, folder: Path) -> dict[str, str]:
    ports = Ports.free_block()
    own = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    return own | {
        "BYOK_ENV": "development",
        "BYOK_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "BYOK_LEDGER_DSN": server.dsn("ledger_service", "ledger"),
        "BYOK_REGISTRY_DSN": server.dsn("registry_service", "registry"),
        "BYOK_LEDGER_ADMIN_DSN": server.dsn("ledger_owner", "ledger"),
        "BYOK_REGISTRY_ADMIN_DSN": server.dsn("registry_owner", "registry"),
        "BYOK_JWT_JWKS_FILE": str(create_signing_key(folder).jwks_file),
        "BYOK_KEK_FILE": str(write_keyring(folder / "kek.json")),
        **{f"BYOK_{name.upper()}_PORT": str(getattr(ports, name)) for name in PROGRAMS},
    }


def byok(server: Database, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *command],
        env=environment(server, folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("revision", "said"), [(LATER, f"revision {LATER}"), ("0001", "run byok db upgrade")])
def test_a_program_does_not_begin_on_the_database_of_another_release(
    server: Database, at_revision: Callable[[Schema, str], None], tmp_path: Path, program: str, revision: str, said: str
) -> None:
    at_revision(PROGRAMS[program], revision)
    ended = byok(server, tmp_path, program)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (ended.returncode, lines[-1]["level"]) == (2, "critical")
    assert said in lines[-1]["error"]
    assert f"the {PROGRAMS[program].name} database is at revision {revision}" in lines[-1]["error"]
    assert not any("exception" in line for line in lines)


@pytest.mark.parametrize("schema", UPGRADES, ids=lambda schema: schema.name)
def test_an_upgrade_by_an_earlier_release_ends_with_a_sentence_and_changes_nothing(
    server: Database, at_revision: Callable[[Schema, str], None], tmp_path: Path, schema: Schema
) -> None:
    at_revision(schema, LATER)
    ended = byok(server, tmp_path, "db", "upgrade")
    assert ended.returncode == 2
    sentence = f"the {schema.name} database is at revision {LATER}, and this release knows none after {schema.newest}"
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    with psycopg.connect(server.dsn(f"{schema.name}_owner", schema.name)) as connection:
        assert schema.revision(connection) == LATER


def test_a_revision_that_no_release_has_is_refused_in_a_sentence(
    server: Database, at_revision: Callable[[Schema, str], None], tmp_path: Path
) -> None:
    at_revision(LEDGER, "0000")
    ended = byok(server, tmp_path, "db", "upgrade")
    assert ended.returncode == 2
    assert "the ledger database cannot be upgraded from where it is" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("schema", UPGRADES, ids=lambda schema: schema.name)
def test_a_program_that_runs_goes_on_when_a_later_release_upgrades_beneath_it(schema: Schema) -> None:
    assert schema.lacks(LATER) is None
    assert "run byok db upgrade" in str(schema.lacks("0001"))
    assert "run byok db upgrade" in str(schema.lacks(None))
    assert schema.exceeds(schema.newest) is None
