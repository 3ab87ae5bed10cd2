"""Every line that a service writes to standard error is JSON, whatever goes wrong, tracebacks and warnings included."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.canary_sinks import owner_dsn
from tests.e2e.running import Stack, environment, node_call, start_stack
from tests.patience import PATIENCE_SECONDS, wait_for

SERVICES = ("registry", "ledger", "metering", "console", "journal")
TALKATIVE = {"PYTHONWARNINGS": "always", "PYTHONASYNCIODEBUG": "1", "BYOK_LOG_LEVEL": "DEBUG"}


def lines(data_dir: Path, service: str) -> list[dict[str, Any]]:
    """What it wrote; fails at the first line that is no JSON object."""
    found = []
    for line in (data_dir / "logs" / f"{service}.log").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            raise AssertionError(f"{service} wrote: {line}") from None
    assert all({"service", "event", "level", "timestamp"} <= each.keys() for each in found)
    return found


def take_a_table_away(stack: Stack, database: str, table: str, path: str) -> None:
    """Have a service fail for what nobody foresees."""
    client = stack.registry if database == "registry" else stack.ledger
    with psycopg.connect(owner_dsn(stack, database), autocommit=True) as owner:
        owner.execute(f"ALTER TABLE {database}.{table} RENAME TO {table}_gone")
        assert client.get(path).status_code == 500
        owner.execute(f"ALTER TABLE {database}.{table}_gone RENAME TO {table}")


def end_the_worker(stack: Stack) -> None:
    """Have it read a registry change that nobody can read."""
    with psycopg.connect(owner_dsn(stack, "ledger"), autocommit=True) as owner:
        newest = "SELECT max(seq) + 1, 'plan:another', '{}' FROM ledger.registry_change"
        owner.execute(f"INSERT INTO ledger.registry_change (seq, key, payload) {newest}")
    stack.new_organization("pro")


@pytest.mark.slow
def test_all_that_goes_wrong_is_lines_of_json(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start_stack(data_dir, port_base=None, **TALKATIVE) as stack:
        org_id = stack.new_organization()
        stack.publish(node_call(org_id))
        stack.entries(org_id, 1)
        take_a_table_away(stack, "registry", "credential", "/v1/credentials?org_id=x")
        take_a_table_away(stack, "ledger", "entry", f"/v1/entries/{uuid.uuid4()}/receipt")
        end_the_worker(stack)
        wait_for("the end of the stack", lambda: stack.process.poll() is not None)
    found = {service: lines(data_dir, service) for service in SERVICES}
    tracebacks = {service for service in SERVICES if any("Traceback" in str(line) for line in found[service])}
    assert {"registry", "metering"} <= tracebacks
    last = [line for line in found["metering"] if line["level"] == "critical"]
    assert last[-1]["event"] == "the worker cannot go on"
    # Whichever it comes upon first: that it cannot be read, or that the registry has another one of its number.
    assert "UnreadableChangeError" in last[-1]["exception"] or "RegistryForkedError" in last[-1]["exception"]


@pytest.mark.slow
@pytest.mark.parametrize("service", ["registry", "metering", "ledger"])
@pytest.mark.parametrize("settings", [{}, {"BYOK_REQUEST_HEADER_SECONDS": "soon"}])
def test_a_service_that_does_not_begin_says_why_as_json(service: str, settings: dict[str, str]) -> None:
    command = [sys.executable, "-m", "services", service]
    talkative = environment() | {"PYTHONWARNINGS": "always"} | settings
    ended = subprocess.run(
        command, env=talkative, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    said = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (ended.returncode, said[-1]["level"]) == (2, "critical")
    assert "BYOK_" in said[-1]["error"]


@pytest.mark.slow
def test_a_service_that_cannot_be_imported_says_so_as_json(tmp_path: Path) -> None:
    # A library that is broken: what comes before all of our own code.
    (tmp_path / "psycopg").mkdir()
    (tmp_path / "psycopg" / "__init__.py").write_text("raise ImportError('broken')")
    settings = {"PYTHONPATH": str(tmp_path), "BYOK_LEDGER_DSN": "postgresql://x", "BYOK_KAFKA_BOOTSTRAP": "x:1"}
    command = [sys.executable, "-m", "services", "metering"]
    ended = subprocess.run(command, env=environment() | settings, capture_output=True, text=True, check=False)
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert "ImportError: broken" in line["exception"]
