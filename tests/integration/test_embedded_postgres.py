"""The embedded PostgreSQL: a real server that keeps its data, guards it with passwords, and never outlives us."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from services.local.embedded import account
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import SUPERUSER, Postgres
from services.local.endpoints import Ports
from services.local.processes import Account, StackError, StopSwitch, Supervisor
from tests.integration.supervised import first_line, is_gone, start_script
from tests.patience import PATIENCE_SECONDS, wait_for

PASSWORD = "made-up-for-the-test"
PASSWORDS = {role: f"of-{role}" for role in LOGIN_ROLES}

# Starts PostgreSQL on an existing data directory, prints its process id, and waits to be killed.
PARENT = f"""
import json, os, sys, time
from pathlib import Path
from services.local.embedded.postgres import Postgres
from services.local.processes import StopSwitch, Supervisor
folder, port, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
supervisor = Supervisor(folder, StopSwitch())
server = Postgres(folder / "postgres", port, password, dict(os.environ))
child = supervisor.start(server.program())
supervisor.wait_until(server.answers, time.monotonic() + {PATIENCE_SECONDS}, lambda: child.report("does not answer"))
print(json.dumps(child.pid), flush=True)
supervisor.watch()
"""


class Server:
    """A PostgreSQL of the test, with what it needs to be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = Ports.free_block().postgres
        self.supervisor = Supervisor(folder, StopSwitch())
        self.postgres = Postgres(folder / "postgres", self.port, PASSWORD, dict(os.environ))

    def start(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        self.postgres.initialize(self.supervisor, deadline)
        child = self.supervisor.start(self.postgres.program())
        self.supervisor.wait_until(self.postgres.answers, deadline, lambda: child.report("does not answer"))
        self.pid = child.pid

    def stop(self) -> None:
        self.supervisor.stop()
        self.postgres.close()

    def log(self) -> str:
        return (self.folder / "postgres.log").read_text()

    def login(self, role: str, database: str, password: str | None = None) -> psycopg.Connection:
        password = PASSWORDS[role] if password is None else password
        dsn = f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"
        return psycopg.connect(dsn, autocommit=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        with server.postgres.connect() as admin:
            prepare_databases(admin, PASSWORDS)
        yield server
    finally:
        server.stop()


def test_it_is_postgresql_18_with_checksums_and_durable_on_loopback_alone(server):
    with server.postgres.connect() as admin:
        setting = dict(admin.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert setting["server_version"].startswith("18.")
    expected = {
        "data_checksums": "on",
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "server_encoding": "UTF8",
        "lc_messages": "C",
        "TimeZone": "UTC",
        "max_connections": "100",
    }
    assert {name: setting[name] for name in expected} == expected


def test_it_does_not_run_as_root_and_its_command_line_has_no_password(server):
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert PASSWORD not in Path(f"/proc/{server.pid}/environ").read_text()


@pytest.mark.parametrize("role", [SUPERUSER, *LOGIN_ROLES])
def test_nobody_enters_without_the_right_password(server, role):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.login(role, "postgres", "wrong")


def test_every_rule_of_access_asks_for_a_password(server):
    with server.postgres.connect() as admin:
        assert admin.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall() == [("scram-sha-256",)]


def test_preparing_again_changes_nothing_and_logs_no_password(server):
    with server.postgres.connect() as admin:
        prepare_databases(admin, PASSWORDS)
    server.login("ledger_service", "ledger").close()
    assert not [password for password in PASSWORDS.values() if password in server.log()]


@pytest.mark.parametrize("database", ["ledger", "registry"])
def test_the_owner_makes_tables_and_the_service_only_temporary_ones(server, database):
    with server.login(f"{database}_owner", database) as owner:
        owner.execute("CREATE SCHEMA made; CREATE TABLE IF NOT EXISTS thing (n int)")
    with server.login(f"{database}_service", database) as service:
        service.execute("CREATE TEMPORARY TABLE batch (n int)")
        for statement in ("CREATE TABLE mine (n int)", "CREATE SCHEMA mine", "DROP TABLE thing", "SELECT * FROM thing"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement)


def test_the_replayer_alone_makes_databases_and_is_nobody_else(server):
    with server.postgres.connect() as admin:
        makers = admin.execute("SELECT rolname FROM pg_roles WHERE rolcreatedb AND rolname = ANY(%s)", [[*LOGIN_ROLES]])
        assert makers.fetchall() == [("ledger_replay",)]
        assert admin.execute("SELECT 1 FROM pg_auth_members WHERE member = 'ledger_replay'::regrole").fetchall() == []


_FOREIGN = [("ledger_service", "registry"), ("registry_service", "ledger")]


@pytest.mark.parametrize(("role", "database"), [*_FOREIGN, ("ledger_replay", "ledger"), ("ledger_replay", "registry")])
def test_a_role_cannot_even_connect_to_a_database_that_is_not_its_own(server, role, database):
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        server.login(role, database)


def test_a_dashboard_that_is_granted_the_reader_role_can_connect(server):
    with server.postgres.connect() as admin:
        admin.execute("CREATE ROLE dashboard LOGIN PASSWORD 'read' IN ROLE ledger_reader")
    server.login("dashboard", "ledger", "read").close()


def test_the_login_for_dashboards_is_a_reader_and_nothing_else(server):
    server.login("ledger_dashboard", "ledger").close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        server.login("ledger_dashboard", "registry")
    with server.postgres.connect() as admin:
        roles = "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'ledger_dashboard'::regrole"
        assert admin.execute(roles).fetchall() == [("ledger_reader",)]


def test_what_the_registry_asks_the_ledger_as_can_connect_to_it_alone(server):
    server.login("ledger_registry", "ledger").close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        server.login("ledger_registry", "registry")
    with server.postgres.connect() as admin:
        roles = "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'ledger_registry'::regrole"
        assert admin.execute(roles).fetchall() == []


def test_a_restart_keeps_the_data(tmp_path):
    server = Server(tmp_path)
    try:
        server.start()
        with server.postgres.connect() as admin:
            admin.execute("CREATE TABLE kept AS SELECT 42 AS n")
        server.stop()
        server.start()
        with server.postgres.connect() as admin:
            assert admin.execute("SELECT n FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_killing_the_parent_leaves_no_server_and_loses_nothing_committed(tmp_path):
    server = Server(tmp_path)
    server.postgres.initialize(server.supervisor, time.monotonic() + PATIENCE_SECONDS)
    parent = start_script(PARENT, tmp_path, server.port, PASSWORD)
    postmaster = first_line(parent)
    with server.postgres.connect() as admin:
        admin.execute("CREATE TABLE kept AS SELECT 42 AS n")
        backends = [pid for (pid,) in admin.execute("SELECT pid FROM pg_stat_activity")]
        parent.kill()
        parent.communicate(timeout=PATIENCE_SECONDS)
        wait_for("the end of the server and its helpers", lambda: all(map(is_gone, [postmaster, *backends])))
    try:
        server.start()
        with server.postgres.connect() as admin:
            assert admin.execute("SELECT n FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_the_pid_file_of_a_machine_that_lost_power_is_no_obstacle(tmp_path):
    server = Server(tmp_path)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    server.start()
    _, *rest = pid_file.read_text().splitlines()
    server.stop()
    # Since the machine started again, that id is another process of the same user: say, the server of another stack.
    user = account.server_account(tmp_path / "postgres")
    other = subprocess.Popen(["sleep", "600"], user=user.uid if user else None, cwd="/")
    try:
        pid_file.write_text("\n".join([str(other.pid), *rest]))
        server.start()
    finally:
        server.stop()
        other.kill()
        other.wait()


def test_an_initialization_that_was_cut_off_is_done_again(tmp_path):
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("half")
    server = Server(tmp_path)
    try:
        server.start()
    finally:
        server.stop()
    assert not (tmp_path / "postgres.new").exists()


def test_a_client_that_stays_does_not_hold_up_the_stop(tmp_path):
    server = Server(tmp_path)
    server.start()
    client = server.postgres.connect()
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < PATIENCE_SECONDS
    client.close()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StackError, match=r"pip install 'byok-credit-metering\[embedded\]'"):
        account.executables_for(None)


@pytest.fixture
def wheel_out_of_reach(tmp_path, monkeypatch):
    """The wheel in a folder that only root may enter, as in root's home; and an empty cache that all may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root changes to another user")
    package = account._package()
    for name in (package.name, f"{package.name}.libs"):
        (tmp_path / name).symlink_to(package.with_name(name))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(account, "_package", lambda: tmp_path / package.name)
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(account, "_CACHE", Path(cache) / "byok")
        yield Path(cache) / "byok"


def test_as_root_programs_out_of_reach_are_copied_once_and_work(wheel_out_of_reach, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    server = Server(folder)
    try:
        server.start()
    finally:
        server.stop()
    copies = list(wheel_out_of_reach.iterdir())
    user = account.server_account(folder / "postgres")
    assert account.executables_for(user).is_relative_to(copies[0])
    assert list(wheel_out_of_reach.iterdir()) == copies
    assert copies[0].stat().st_uid == 0


def test_as_root_a_cache_that_cannot_be_made_is_a_clear_error(wheel_out_of_reach):
    wheel_out_of_reach.write_text("a file in the way")
    with pytest.raises(StackError, match="run byok as an ordinary user"):
        account.executables_for(Account(65_534, 65_534))
