"""New key-encryption keys for old ones, while registries run: nothing is lost, nothing is taken for "no key"."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from services.key_registry.keyring.envelopes import Binding, SealedSecret, load_keyring
from services.key_registry.keyring.kek_file import add_kek
from services.key_registry.keyring.rewrapping import KekInUse, count_secrets, retire, rewrap
from tests.integration.key_registry.conftest import Database, write_keyring
from tests.integration.key_registry.proxied_broker import free_port
from tests.integration.key_registry.test_registry_process import process, status, wait_for
from tests.patience import PATIENCE_SECONDS

EVERY_SCOPE = "credentials:write credentials:lease plans:write registry:backdate"
KEY = "sk-ant-api03-rotation-rotation-{number:04}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_keyring(tmp_path / "kek.json", "kek-1")


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        yield connection


def fill(database: Database, file: Path, credentials: int) -> None:
    """Credentials with real secrets, written as the registry writes them but for the log."""
    ring = load_keyring(file)
    with psycopg.connect(database.admin_dsn) as owner:
        owner.execute(
            "INSERT INTO registry.log SELECT n, 'x', 'x', now() + n * interval '1 us' FROM generate_series(1, %s) n",
            (credentials,),
        )
        for number in range(1, credentials + 1):
            binding = Binding("acme", "team", f"t{number}", "openai", f"c{number:06}", 1)
            (slot,) = owner.execute(
                "INSERT INTO registry.slot (org_id, scope_type, scope_id, provider)"
                " VALUES (%s, %s, %s, %s) RETURNING slot_id",
                binding[:4],
            ).fetchone() or (0,)
            owner.execute(
                "INSERT INTO registry.credential VALUES (%s, %s, %s, %s, %s, %s, %s, NULL, '…', '', 'test', now())",
                (binding.credential_id, number, slot, *binding[:4]),
            )
            sealed = ring.seal(SecretStr(KEY.format(number=number)), binding)
            owner.execute(
                "INSERT INTO registry.secret_version (credential_id, version, format_version, kek_id, wrapped_key,"
                " wrap_nonce, ciphertext, nonce, created_at) VALUES (%s, 1, %s, %s, %s, %s, %s, %s, now())",
                (binding.credential_id, *sealed),
            )


def opened(database: Database, file: Path) -> int:
    """How many secrets open, all of which must."""
    ring, count = load_keyring(file), 0
    for *binding, sealed in rows(database):
        number = int(str(binding[4])[1:])
        assert ring.open(sealed, Binding(*binding)).get_secret_value() == KEY.format(number=number)
        count += 1
    return count


def rows(database: Database) -> Iterator[tuple[Any, ...]]:
    found = database.rows(
        "SELECT org_id, scope_type, scope_id, provider, credential_id, version, format_version, kek_id, wrapped_key,"
        " wrap_nonce, ciphertext, nonce FROM registry.secret_version JOIN registry.credential USING (credential_id)"
    )
    for row in found:
        yield (*row[:6], SealedSecret(*row[6:]))


def test_rewrapping_moves_every_key_and_no_secret(
    database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    fill(database, file, 120)
    payloads = database.rows("SELECT credential_id, ciphertext, nonce FROM registry.secret_version ORDER BY 1")
    new, heard = add_kek(file, activate=True), []
    found = rewrap(connection, load_keyring(file), lambda done, every: heard.append((done, every)), rows_at_once=50)
    assert (found.active_id, found.moved, found.left, found.unusable) == (new, 120, 0, ())
    assert heard[:3] == [(50, 120), (100, 120), (120, 120)]
    assert count_secrets(connection) == {new: 120}
    assert opened(database, file) == 120
    assert database.rows("SELECT credential_id, ciphertext, nonce FROM registry.secret_version ORDER BY 1") == payloads
    again = rewrap(connection, load_keyring(file))
    assert (again.moved, again.left) == (0, 0)


def test_what_cannot_be_opened_is_named_and_holds_up_nothing(
    database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    fill(database, file, 5)
    add_kek(file, activate=True)
    database.rows("UPDATE registry.secret_version SET kek_id = 'lost' WHERE credential_id = 'c000002' RETURNING 1")
    found = rewrap(connection, load_keyring(file), rows_at_once=2)
    assert (found.moved, found.left) == (4, 1)
    ((credential_id, version, why),) = found.unusable
    assert (credential_id, version, "lost" in why) == ("c000002", 1, True)


def test_a_row_that_somebody_holds_is_left_for_the_next_run(
    database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    fill(database, file, 5)
    add_kek(file, activate=True)
    with psycopg.connect(database.dsn) as holder:
        holder.execute("SELECT 1 FROM registry.secret_version WHERE credential_id = 'c000002' FOR UPDATE")
        found = rewrap(connection, load_keyring(file), rows_at_once=2)
    assert (found.moved, found.left, found.unusable) == (4, 1, ())
    assert rewrap(connection, load_keyring(file)).left == 0
    assert opened(database, file) == 5


def test_a_key_is_retired_when_it_holds_nothing(
    database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    fill(database, file, 3)
    new = add_kek(file, activate=True)
    with pytest.raises(KekInUse, match="3 secrets are under kek-1"):
        retire(connection, file, "kek-1")
    rewrap(connection, load_keyring(file))
    with psycopg.connect(database.dsn) as adding:
        # Somebody adds a key at this moment: retiring waits, and then gives up.
        adding.execute("SELECT 1 FROM registry.log_head FOR UPDATE")
        with pytest.raises(KekInUse, match="try again"):
            retire(connection, file, "kek-1")
    assert load_keyring(file).ids == ("kek-1", new)
    retire(connection, file, "kek-1")
    assert load_keyring(file).ids == (new,)
    assert opened(database, file) == 3


def test_every_ciphertext_is_in_the_table_that_is_rewrapped(database: Database) -> None:
    """A new column of bytes has to be looked at: if it is encrypted, counting and rewrapping must know it."""
    found = database.rows(
        "SELECT table_name || '.' || column_name FROM information_schema.columns"
        " WHERE table_schema = 'registry' AND data_type = 'bytea'"
    )
    secret = {f"secret_version.{column}" for column in ("wrapped_key", "wrap_nonce", "ciphertext", "nonce")}
    plain = {"log.payload", "audit.hash", "audit.prev_hash", "audit_head.last_hash"}
    assert {name for (name,) in found} == secret | plain


def byok(database: Database, file: Path, *arguments: str) -> subprocess.Popen[str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    return subprocess.Popen(
        [sys.executable, "-m", "services", "kek", *arguments],
        env=settings | {"BYOK_REGISTRY_DSN": database.dsn, "BYOK_KEK_FILE": str(file)},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(database: Database, file: Path, *arguments: str, status: int = 0) -> str:
    started = byok(database, file, *arguments)
    out, errors = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == status, out + errors
    return out if out else errors


@pytest.mark.slow
def test_a_run_that_was_killed_is_finished_by_the_next(
    database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    fill(database, file, 1_200)
    new = json.loads(said(database, file, "rotate", "--json"))["kek"]
    with psycopg.connect(database.dsn) as holder:
        # The last row is held, so the first run cannot come to its end before it is killed.
        holder.execute("SELECT 1 FROM registry.secret_version WHERE credential_id = 'c001200' FOR UPDATE")
        started = byok(database, file, "rewrap")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while count_secrets(connection).get(new, 0) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        started.communicate()
        counts = count_secrets(connection)
        assert counts["kek-1"] >= 1
        assert sum(counts.values()) == 1_200
        assert opened(database, file) == 1_200
    told = json.loads(said(database, file, "rewrap", "--json"))
    assert told == {"active": new, "moved": counts["kek-1"], "left": 0, "unusable": []}
    assert opened(database, file) == 1_200


@pytest.mark.slow
def test_the_commands(database: Database, file: Path) -> None:
    fill(database, file, 2)
    staged = json.loads(said(database, file, "rotate", "--stage", "--json"))
    assert (staged["active"], json.loads(file.read_text())["active"]) == (False, "kek-1")
    assert staged["kek"] in said(database, file, "status")
    said(database, file, "rotate", "--to", staged["kek"])
    assert json.loads(file.read_text())["active"] == staged["kek"]
    assert "no key nonsense" in said(database, file, "rotate", "--to", "nonsense", status=2)
    said(database, file, "rotate", "--to", "x", "--stage", status=2)
    assert "run byok kek rewrap first" in said(database, file, "retire", "kek-1", status=1)
    assert "2 secrets were put under" in said(database, file, "rewrap")
    said(database, file, "retire", "kek-1")
    told = json.loads(said(database, file, "status", "--json"))
    assert told == {"active": staged["kek"], "secrets": {staged["kek"]: 2}, "held": [staged["kek"]], "missing": []}
    database.rows("UPDATE registry.secret_version SET kek_id = 'lost' WHERE credential_id = 'c000001' RETURNING 1")
    assert "NOT in the keyring" in said(database, file, "status", status=1)


class Running:
    """A registry process, as its callers see it."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_SECONDS)

    def add(self, team: str, key: str) -> None:
        scope = {"type": "team", "id": team}
        body = {"org_id": "acme", "scope": scope, "provider": "openai", "api_key": key}
        self.http.post("/v1/credentials", json=body).raise_for_status()

    def lease(self, team: str) -> dict[str, Any]:
        body = {"org_id": "acme", "user_id": "uma", "team_id": team, "provider": "openai"}
        answer: dict[str, Any] = self.http.post("/v1/lease", json=body).json()
        return answer


@pytest.fixture
def start(database: Database, tokens: Any, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a registry with a keyring file; its broker is away, which keys do not mind."""
    with ExitStack() as running:

        def started(file: Path) -> Running:
            port = free_port()
            settings = {
                "BYOK_REGISTRY_DSN": database.dsn,
                "BYOK_KEK_FILE": str(file),
                "BYOK_JWT_JWKS_FILE": str(tokens.files.jwks_file),
                "BYOK_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
                "BYOK_REGISTRY_PORT": str(port),
                "BYOK_RATE_LIMIT_BURST": "100",
                "BYOK_RATE_LIMIT_PER_SECOND": "0.01",
            }
            log, url = tmp_path / f"log-{port}", f"http://127.0.0.1:{port}"
            running.enter_context(process(settings, log))
            wait_for(lambda: status(f"{url}/healthz") == 200, log)
            return Running(url, tokens.service(EVERY_SCOPE))

        yield started


@pytest.mark.slow
def test_two_registries_with_one_file_take_in_a_new_key_without_a_restart(
    start: Callable[[Path], Running], database: Database, file: Path, connection: psycopg.Connection[Any]
) -> None:
    one, two = start(file), start(file)
    one.http.put("/v1/organizations/acme/plan", json={"plan": "pro"}).raise_for_status()
    one.add("before", "sk-under-the-old-key-1111")
    new = json.loads(said(database, file, "rotate", "--json"))["kek"]
    two.add("after", "sk-under-the-new-key-2222")
    assert count_secrets(connection) == {"kek-1": 1, new: 1}
    said(database, file, "rewrap")
    said(database, file, "retire", "kek-1")
    for registry in (one, two):
        assert registry.lease("before")["secret"] == "sk-under-the-old-key-1111"
        assert registry.lease("after")["secret"] == "sk-under-the-new-key-2222"
    # The rates in the settings are those of the process.
    statuses = {two.http.get("/v1/providers").status_code for _ in range(110)}
    assert statuses == {200, 429}


@pytest.mark.slow
def test_a_registry_with_an_old_copy_refuses_and_never_says_no_key(
    start: Callable[[Path], Running], database: Database, file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text(file.read_text())
    fresh, stale = start(file), start(copy)
    fresh.http.put("/v1/organizations/acme/plan", json={"plan": "pro"}).raise_for_status()
    said(database, file, "rotate")
    fresh.add("t", "sk-under-the-new-key-2222")
    refused = stale.lease("t")
    assert (refused["status"], refused["code"]) == (503, "credential_unusable")
    (row,) = database.rows("SELECT outcome, code FROM registry.audit WHERE action = 'key.lease'")
    assert row == ("refused", "credential_unusable")
    copy.write_text(file.read_text())
    assert stale.lease("t")["secret"] == "sk-under-the-new-key-2222"


@pytest.mark.slow
def test_a_staged_key_makes_copies_safe(
    start: Callable[[Path], Running], database: Database, file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text(file.read_text())
    fresh, behind = start(file), start(copy)
    fresh.http.put("/v1/organizations/acme/plan", json={"plan": "pro"}).raise_for_status()
    staged = json.loads(said(database, file, "rotate", "--stage", "--json"))["kek"]
    copy.write_text(file.read_text())
    said(database, file, "rotate", "--to", staged)
    fresh.add("t", "sk-under-the-new-key-2222")
    assert behind.lease("t")["secret"] == "sk-under-the-new-key-2222"
