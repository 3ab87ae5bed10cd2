"""A data directory of the first day is upgraded by today's `byok up`, and says what it said."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.local.data_dir import DataDir
from services.local.embedded.databases import DATABASES, LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import SUPERUSER, Postgres
from services.local.endpoints import Ports
from services.local.processes import StopSwitch, Supervisor
from services.runtime.private_file import write_private
from tests.e2e.running import environment, node_call, start_stack
from tests.patience import PATIENCE_SECONDS

FIRST_DAY = Path(__file__).parent / "data" / "first_day"
ORG = "org-of-the-first-day"
TIME = "2026-11-10T10:00:00Z"
CHARGED = {
    ("claimed", "charge"): 1_200_000,
    ("node-1", "charge"): 1_000_000,
    ("run-1", "charge"): 1_000_000,
    ("token-1", "charge"): 600_000,
    ("token-bob", "charge"): 1_200_000,
    ("token-bob", "correction"): 600_000,
    ("token-bob", "reversal"): -1_200_000,
    ("token-team", "charge"): 600_000,
    ("tool-1", "charge"): 3_000_000,
}
NODE_1, OF_BEFORE = "1caf4186-4837-8101-9728-cc1601240f9a", "1f78db1d-2788-8039-af6d-a2e2c0ca2c73"
"""The id of an entry, and what it was in the ledgers of the first 36 minutes."""


def sql_of(name: str) -> str:
    return gzip.decompress((FIRST_DAY / f"{name}.sql.gz").read_bytes()).decode()


def restore(folder: Path, ledger: str) -> Path:
    """A data directory with the databases and the keyring of then."""
    data = DataDir(folder)
    data.create()
    write_private(data.secrets / "kek.json", (FIRST_DAY / "kek.json").read_text())
    passwords = data.passwords((SUPERUSER, *LOGIN_ROLES))
    supervisor = Supervisor(data.logs, StopSwitch())
    server = Postgres(data.postgres, Ports.free_block().postgres, passwords[SUPERUSER], dict(os.environ))
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        server.initialize(supervisor, deadline)
        child = supervisor.start(server.program())
        supervisor.wait_until(server.answers, deadline, lambda: child.report("does not answer"))
        with server.connect() as admin:
            prepare_databases(admin, passwords)
        for name, statements in zip(DATABASES, (ledger, sql_of("registry")), strict=True):
            with server.connect(name) as superuser:
                superuser.execute(statements.encode())
    finally:
        supervisor.stop()
        server.close()
    return folder


SCHEMA = """
SELECT tablename || ' ' || indexdef FROM pg_indexes WHERE schemaname = ANY(%(schemas)s)
UNION ALL SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
  || coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = ANY(%(schemas)s)
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace::regnamespace::text = ANY(%(schemas)s)
UNION ALL SELECT tgrelid::regclass || ' ' || pg_get_triggerdef(t.oid) FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace::regnamespace::text = ANY(%(schemas)s) AND NOT tgisinternal
UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace::regnamespace::text = ANY(%(schemas)s)
UNION ALL SELECT c.oid::regclass || ' ' || a.grantee::regrole || ' ' || a.privilege_type FROM pg_class c
  CROSS JOIN aclexplode(c.relacl) a WHERE c.relnamespace::regnamespace::text = ANY(%(schemas)s)
"""


def schema(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(SCHEMA, {"schemas": list(DATABASES)}).fetchall()
    return sorted(row[0] for row in rows)


def verified(data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services", "verify", "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)


@pytest.mark.slow
def test_entries_keys_and_receipts_of_the_first_day_are_whole_after_the_upgrade(tmp_path: Path) -> None:
    data_dir = restore(tmp_path / "old", sql_of("ledger"))
    with start_stack(data_dir) as stack, start_stack(tmp_path / "new") as new:
        booked = stack.entries(ORG)
        assert {(entry["event_id"], entry["kind"]): entry["charged_mc"] for entry in booked} == CHARGED
        receipts = [stack.ledger.get(f"/v1/entries/{entry['entry_id']}/receipt").json() for entry in booked]
        assert all(receipt["evidence"]["agrees"] for receipt in receipts)
        assert [_key(each) for each in (leased(stack, user, team) for user, team in LEASED)] == ["personal", "team"]
        # What was booked then, and comes again now, is the same event.
        stack.publish(node_call(ORG, id="node-1", time=TIME))
        stack.publish(node_call(ORG, id="node-2", time=TIME))
        now = [(entry["event_id"], entry["kind"]) for entry in stack.entries(ORG, len(booked) + 1)]
        assert sorted(now) == sorted([*CHARGED, ("node-2", "charge")])
        found = verified(data_dir)
        assert (found.returncode, "0 differences" in found.stdout) == (0, True), found
        for dsn in ("ledger_dsn", "registry_dsn"):
            assert schema(stack.told[dsn]) == schema(new.told[dsn])


LEASED = (("ada", None), ("bob", "team-1"))


def leased(stack: Any, user: str, team: str | None) -> Any:
    """The key that applies to somebody, in plain text: so it can still be decrypted."""
    body = {"org_id": ORG, "user_id": user, "team_id": team, "provider": "anthropic"}
    answer = stack.registry.post("/v1/lease", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _key(lease: Any) -> str:
    assert lease["secret"].startswith("sk-test-")
    return str(lease["scope"]["type"])


@pytest.mark.slow
def test_a_ledger_whose_ids_are_of_before_is_refused_in_a_sentence_and_left_as_it_is(tmp_path: Path) -> None:
    data_dir = restore(tmp_path / "old", sql_of("ledger").replace(NODE_1, OF_BEFORE))
    base = str(Ports.free_block().kafka)
    command = [sys.executable, "-m", "services", "up", "--data-dir", str(data_dir), "--port-base", base]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 1
    assert f"entry {OF_BEFORE} of the ledger has not the id" in ended.stderr
    assert "Traceback" not in ended.stderr
