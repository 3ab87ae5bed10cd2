"""`byok up` as a process, on the real PostgreSQL and broker; small programs stand in for the three services."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest

from services.local.data_dir import DataDir
from services.local.endpoints import Ports
from services.runtime.settings import TokenSettings
from services.runtime.tokens import TokenVerifier
from tests.integration.supervised import first_line, start_script
from tests.patience import PATIENCE_SECONDS, wait_for

# `byok` with stand-ins: each service answers every request with the names of the settings it was given.
BYOK = """
import sys
import services.local.stack as stack
from services.__main__ import main
SERVICE = '''
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join(sorted(name for name in os.environ if name.startswith("BYOK_"))).encode())
address = os.environ["BYOK_HOST"], int(os.environ[f"BYOK_{sys.argv[1].upper()}_PORT"])
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
'''
UPGRADE = "import os; assert os.environ['BYOK_LEDGER_ADMIN_DSN'] and os.environ['BYOK_REGISTRY_ADMIN_DSN']"
stack.BYOK_COMMANDS = stack.Commands(
    upgrade=(sys.executable, "-c", UPGRADE),
    services={name: (sys.executable, "-c", SERVICE, name) for name in stack.SERVICES},
)
main()
"""


class Byok:
    """`byok up --json` on one data directory, started as often as a test likes."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = Ports.free_block()
        self.running: list[subprocess.Popen[str]] = []

    def up(self) -> subprocess.Popen[str]:
        arguments = ("up", "--data-dir", self.data, "--port-base", self.ports.kafka, "--json")
        self.running.append(start_script(BYOK, *arguments))
        return self.running[-1]

    def nothing_is_left(self) -> bool:
        """Whether no child, nor any child of a child, holds the lock that all of them inherit."""
        data = DataDir(self.data)
        try:
            return data.try_lock_for_children()
        finally:
            data.unlock()

    def close(self) -> None:
        """End what a failed test left; the children end by themselves."""
        for process in self.running:
            process.kill()
            process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def byok(tmp_path):
    byok = Byok(tmp_path / "data")
    yield byok
    byok.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A running stack that no test stops or changes, and its line of JSON."""
    byok = Byok(tmp_path_factory.mktemp("shared") / "data")
    try:
        yield byok, first_line(byok.up())
    finally:
        byok.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and errors of a stack that was told to end, which it does within 30 s."""
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, errors


def children_of(pid: int) -> dict[str, int]:
    """The process ids of the children, by the stand-in's argument or the program's name."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_text().rstrip("\0").split("\0") for child in pids}
    return {line[-1] if line[-1] in Ports._fields else Path(line[0]).name: child for child, line in lines.items()}


def test_the_line_of_json_has_what_the_contract_says_and_all_of_it_works(shared):
    byok, line = shared
    fields = ["kafka", "ledger_dsn", "registry_dsn", "registry_url", "ledger_url", "console_url", "metrics", "tokens"]
    assert list(line) == fields
    for database in ("ledger", "registry"):
        with psycopg.connect(line[f"{database}_dsn"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (f"{database}_service",)
    host, port = line["kafka"].split(":")
    socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS).close()
    assert len(line["metrics"]) == 4
    settings = TokenSettings(jwt_jwks_file=byok.data / "secrets" / "jwks.json")
    callers = {name: TokenVerifier(settings).verify(token) for name, token in line["tokens"].items()}
    assert {name: (caller.id, caller.org_id) for name, caller in callers.items()} == {
        name: (name, "*") for name in ("platform", "runner", "billing")
    }
    assert len(callers["platform"].scopes) == 6


def test_a_restart_keeps_data_and_keys_and_gives_the_broker_a_new_identity(byok):
    seen = []
    for statement in ("CREATE TABLE kept AS SELECT 42 AS n", "SELECT n FROM kept"):
        process = byok.up()
        line = first_line(process)
        password = json.loads((byok.data / "secrets" / "passwords.json").read_text())["ledger_owner"]
        dsn = f"postgresql://ledger_owner:{password}@127.0.0.1:{byok.ports.postgres}/ledger"
        with psycopg.connect(dsn) as connection:
            cursor = connection.execute(statement)
            assert cursor.rowcount == 1
        broker = next(pid for name, pid in children_of(process.pid).items() if name.startswith("tansu"))
        cluster = Path(f"/proc/{broker}/cmdline").read_text().rstrip("\0").split("\0")[-1]
        seen.append((line["ledger_dsn"], (byok.data / "secrets" / "kek.json").read_text(), cluster))
        process.send_signal(signal.SIGINT)
        status, errors = ended(process)
        assert status == 0
        assert password not in errors
    (dsn, kek, cluster), (dsn_again, kek_again, cluster_again) = seen
    assert (dsn, kek) == (dsn_again, kek_again)
    assert cluster != cluster_again


def test_two_signals_in_a_row_to_the_whole_group_end_everything_in_time(byok):
    process = byok.up()
    first_line(process)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    assert ended(process)[0] == 0
    assert byok.nothing_is_left()


@pytest.mark.parametrize("log", ["initdb", "broker", "journal", "registry"])
def test_a_signal_during_the_start_ends_everything_cleanly(byok, log):
    process = byok.up()
    wait_for(f"the start of {log}", (byok.data / "logs" / f"{log}.log").exists)
    os.killpg(process.pid, signal.SIGINT)
    status, errors = ended(process)
    assert (status, "Traceback" in errors) == (0, False), errors
    assert byok.nothing_is_left()


@pytest.mark.slow
def test_killed_outright_it_leaves_no_process_and_starts_again_at_once(byok):
    process = byok.up()
    first_line(process)
    children = children_of(process.pid)
    assert len(children) == 7
    for pid in children.values():
        open_files = {entry.resolve() for entry in Path(f"/proc/{pid}/fd").iterdir()}
        assert byok.data / "children.lock" in open_files, "a child that is not counted as left"
    process.kill()
    process.wait()
    again = byok.up()
    first_line(again)
    again.send_signal(signal.SIGTERM)
    assert ended(again)[0] == 0
    wait_for("the end of every process", byok.nothing_is_left)


@pytest.mark.parametrize("victim", ["ledger", "postgres"])
def test_a_crash_is_told_and_ends_everything(byok, victim):
    process = byok.up()
    first_line(process)
    os.kill(children_of(process.pid)[victim], signal.SIGKILL)
    status, errors = ended(process)
    assert status == 1
    assert f"{victim} was ended by SIGKILL" in errors
    assert str(byok.data / "logs" / f"{victim}.log") in errors
    wait_for("the end of every process", byok.nothing_is_left)


def test_a_second_stack_on_the_same_data_is_refused_and_the_first_goes_on(shared):
    byok, line = shared
    status, errors = ended(byok.up())
    assert status == 1
    assert f"another byok is running on {byok.data}" in errors
    psycopg.connect(line["ledger_dsn"]).close()


def test_a_taken_port_is_named_before_anything_starts(byok):
    with socket.socket() as other:
        other.bind(("127.0.0.1", byok.ports.ledger))
        other.listen()
        status, errors = ended(byok.up())
    assert status == 1
    assert f"port {byok.ports.ledger} (ledger) is taken" in errors
    assert list((byok.data / "logs").iterdir()) == []


def test_each_service_gets_the_secrets_it_needs_and_no_others(shared):
    byok, _ = shared
    given = {
        name: set(Path(f"/proc/{pid}/environ").read_text().replace("=", "\0").split("\0"))
        for name, pid in children_of(byok.running[0].pid).items()
    }
    secret = {"BYOK_LEDGER_DSN", "BYOK_REGISTRY_DSN", "BYOK_KEK_FILE", "BYOK_JWT_SIGNING_KEY_FILE"}
    assert given["registry"] & secret == {"BYOK_REGISTRY_DSN", "BYOK_LEDGER_DSN", "BYOK_KEK_FILE"}
    assert given["ledger"] & secret == given["metering"] & secret == {"BYOK_LEDGER_DSN"}
    assert not [name for name, names in given.items() if any("ADMIN_DSN" in entry for entry in names)]
    assert not any(entry.startswith("BYOK_") for entry in given["postgres"])
