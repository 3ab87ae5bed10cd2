"""Started by root, the children of `byok up` are not root, and the registry alone can read the keyring."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.local import accounts
from services.local.accounts import Accounts
from services.local.children import service_program
from services.local.data_dir import DataDir
from services.local.dev_tokens import create_signing_key
from services.local.embedded.account import runs, server_account
from services.local.endpoints import Ports
from services.local.processes import Account, Program
from tests.enabling import skip_unless
from tests.integration.supervised import first_line
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes to another user")


def python_for_all() -> tuple[str, dict[str, str]]:
    """A Python of our version that every account can run, and its environment; skips where there is none."""
    libraries = {"PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))}
    version = "{}.{}".format(*sys.version_info)
    for python in (sys.executable, f"/usr/bin/python{version}"):
        if runs((python, "-c", accounts._TRY), Account(65_534, 65_534), environment=dict(os.environ) | libraries):
            return python, dict(os.environ) | libraries
    skip_unless(condition=False, reason="no Python that other users can run", command=f"apt install python{version}")
    raise AssertionError


class Running:
    """A real `byok up`."""

    def __init__(self, data: Path) -> None:
        python, environment = python_for_all()
        command = [python, "-m", "services", "up", "--data-dir", str(data), "--json"]
        self.process = subprocess.Popen(
            [*command, "--port-base", str(Ports.free_block().kafka)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.line = first_line(self.process)

    def children(self) -> dict[str, int]:
        """Their process ids by name."""
        pid = self.process.pid
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = {child: Path(f"/proc/{child}/cmdline").read_text().rstrip("\0").split("\0") for child in pids}
        return {Path(line[0] if line[1] != "-m" else line[-1]).name: int(child) for child, line in names.items()}

    def stop(self) -> str:
        """What it wrote on its standard error."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=PATIENCE_SECONDS)[1]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    # Root's own folder, which no other user may pass.
    tmp_path.chmod(0o700)
    running = Running(tmp_path / "data")
    yield running
    running.process.kill()
    running.process.communicate(timeout=PATIENCE_SECONDS)


def uid_of(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")]
    real, effective, saved, _ = map(int, line.split()[1:])
    assert real == effective == saved
    return real


def can_read(file: str, folder: Path, uid: int) -> bool:
    """Whether the user can read it from where the children stand."""
    tried = subprocess.run(
        ["/bin/cat", file], cwd=folder, user=uid, group=uid, extra_groups=[], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.mark.slow
def test_no_child_is_root_and_the_registry_alone_reads_the_keyring(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    children = running.children()
    uids = {name: uid_of(pid) for name, pid in children.items()}
    server = uids.pop("postgres")
    registry = uids.pop("registry")
    assert {"metering", "ledger"} < uids.keys()
    assert set(uids.values()) == {server}
    assert 0 not in {server, registry}
    assert registry != server

    assert can_read("secrets/kek.json", data, registry)
    assert not can_read("secrets/kek.json", data, server)
    assert can_read("secrets/jwks.json", data, server)
    for file in ("secrets/jwt-signing-key.pem", "secrets/passwords.json", "secrets/env"):
        assert not any(can_read(file, data, uid) for uid in (registry, server))
    # Nor can it be had from the registry's memory, settings or files.
    for name in ("environ", "mem", "fd/1"):
        assert not can_read(f"/proc/{children['registry']}/{name}", data, server)

    # A key goes in and out again, also under a key-encryption key that root exchanges.
    python, environment = python_for_all()
    rotation = [python, "-m", "services", "kek", "rotate", "--data-dir", str(data)]
    assert add_key(running, "before") == 201
    subprocess.run(rotation, env=environment, check=True, capture_output=True)
    assert len(json.loads((data / "secrets" / "kek.json").read_text())["keys"]) == 2
    assert (data / "secrets" / "kek.json").stat().st_uid == registry
    assert add_key(running, "after") == 201
    assert [leased(running, user) for user in ("before", "after")] == [
        "sk-of-before-0123456789",
        "sk-of-after-0123456789",
    ]
    assert "as root" not in running.stop()

    # What an earlier run by root left is taken over.
    for left in (data, *(data / "secrets").iterdir(), data / "secrets"):
        os.chown(left, 0, 0)
        left.chmod(0o700 if left.is_dir() else 0o600)
    again = Running(data)
    try:
        assert 0 not in {uid_of(pid) for pid in again.children().values()}
        assert leased(again, "before") == "sk-of-before-0123456789"
    finally:
        again.stop()


def headers(running: Running) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.line['tokens']['platform']}"}


def add_key(running: Running, user: str) -> int:
    url, own = running.line["registry_url"], headers(running)
    httpx.put(
        f"{url}/v1/organizations/acme/plan", json={"plan": "pro"}, headers=own, timeout=PATIENCE_SECONDS
    ).raise_for_status()
    body = {"org_id": "acme", "scope": {"type": "personal", "id": user}, "provider": "openai"}
    return httpx.post(
        f"{url}/v1/credentials", json=body | {"api_key": f"sk-of-{user}-0123456789"}, headers=own
    ).status_code


def leased(running: Running, user: str) -> str:
    body = {"org_id": "acme", "user_id": user, "provider": "openai"}
    answer = httpx.post(
        f"{running.line['registry_url']}/v1/lease", json=body, headers=headers(running), timeout=PATIENCE_SECONDS
    ).json()
    return str(answer["secret"])


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.create()
    create_signing_key(data.secrets)
    return data


def a_service(data: DataDir, name: str = "ledger") -> Program:
    settings = {"BYOK_JWT_JWKS_FILE": str(data.secrets / "jwks.json"), "BYOK_KEK_FILE": str(data.kek_file())}
    return service_program(name, (sys.executable, "-m", "services", name), settings, data.root)


def test_a_python_that_no_other_user_can_run_is_told_and_runs_as_root(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("python", "tansu"):
        (closed / name).symlink_to("/bin/true")
    monkeypatch.setattr(sys, "executable", str(closed / "python"))
    found = Accounts(data, server_account(data.postgres))
    for name in ("registry", "ledger"):
        assert found.prepare(a_service(data, name)) == a_service(data, name)
    (notice,) = found.notices
    assert str(closed / "python") in notice
    assert "run byok as an ordinary user, or install it where other users may read it" in notice
    assert data.kek_file().stat().st_uid == 0
    # What is no Python of ours is tried for itself.
    broker = Program("broker", ("/bin/true",), {}, data.root)
    assert found.prepare(broker).account == server_account(data.postgres)
    assert found.prepare(Program("broker", (str(closed / "tansu"),), {}, data.root)).account is None
    assert "broker" in found.notices[1]


def test_folders_of_the_data_directory_are_given_and_nothing_that_they_link_to(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "runs", lambda *_, **__: True)
    kept = data.root / "journal" / "part"
    kept.mkdir(parents=True)
    mine = tmp_path / "of-root"
    mine.write_text("of root")
    (kept / "events").write_text("some")
    (kept / "soft").symlink_to(mine)
    (kept / "hard").hardlink_to(mine)
    server = server_account(data.postgres)
    assert server is not None
    Accounts(data, server)
    assert {path.stat().st_uid for path in (kept.parent, kept, kept / "events")} == {server.uid}
    assert mine.stat().st_uid == 0
    assert {path.stat().st_uid for path in (data.root, data.logs, data.secrets)} == {0}
    assert stat.S_IMODE(data.logs.stat().st_mode) == 0o700


def test_paths_of_the_data_directory_are_found_from_within_it(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "runs", lambda *_, **__: True)
    prepared = Accounts(data, server_account(data.postgres)).prepare(a_service(data, "registry"))
    assert prepared.directory == data.root
    assert prepared.environment["BYOK_KEK_FILE"] == "secrets/kek.json"
    assert prepared.environment["BYOK_JWT_JWKS_FILE"] == "secrets/jwks.json"
    assert prepared.account is not None
    assert prepared.account.uid == data.kek_file().stat().st_uid != 0


def test_whoever_is_not_root_changes_nothing(data: DataDir) -> None:
    data.kek_file()
    before = [(path, path.stat().st_mode) for path in data.root.rglob("*")]
    found = Accounts(data, None)
    assert found.prepare(a_service(data)) == a_service(data)
    assert found.notices == []
    assert [(path, path.stat().st_mode) for path in data.root.rglob("*")] == before
