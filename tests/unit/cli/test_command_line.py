"""The command line itself: quick to load, and clear about settings that are missing."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from services.__main__ import main
from services.cli.invocation import byok

HEAVY = ["pydantic", "psycopg", "kafka", "aiokafka", "faust", "fastapi", "sqlalchemy", "cryptography"]


def test_loading_the_command_line_imports_nothing_heavy():
    script = f"import sys, services.cli.commands; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_ctrl_c_while_it_loads_ends_it_without_a_traceback(monkeypatch):
    class Impatient:
        def find_spec(self, name, *_path):
            if name == "services.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "services.cli.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_a_setting_that_cannot_be_used_is_named_and_ends_with_status_2():
    environment = os.environ | {"BYOK_REGISTRY_PORT": "not-a-port-but-perhaps-a-secret"}
    command = [sys.executable, "-m", "services", "registry"]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2
    assert "BYOK_REGISTRY_PORT" in refused.stderr
    assert "perhaps-a-secret" not in refused.stderr + refused.stdout


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")} | variables
    command = [sys.executable, "-m", "services", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_it_says_its_version():
    said = run("--version")
    assert (said.returncode, said.stdout) == (0, f"byok {version('byok-credit-metering')}\n")


def test_a_database_that_does_not_answer_is_status_3_for_an_upgrade_as_for_every_command():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    dsn = f"postgresql://owner:made-up-password@127.0.0.1:{port}/ledger"
    refused = run("db", "upgrade", BYOK_LEDGER_ADMIN_DSN=dsn)
    assert refused.returncode == 3
    assert "byok db upgrade: the database does not answer" in refused.stderr
    assert "made-up-password" not in refused.stderr
    assert run("db", "upgrade").returncode == 2


def test_what_people_are_told_to_type_can_be_typed_where_they_stand(monkeypatch):
    elsewhere = {"PATH": "/usr/bin:/bin"}
    monkeypatch.setenv("PATH", elsewhere["PATH"])
    said = subprocess.run(
        [*shlex.split(byok()), "--version"], capture_output=True, text=True, env=elsewhere, check=True
    )
    assert re.match(r"byok \d", said.stdout)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert byok() == "byok"


def test_nobody_waits_for_a_broker_to_hear_what_is_wrong_with_a_file(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    file = tmp_path / "bad.jsonl"
    file.write_text('{"time": "yesterday", "type": "usage.tool_call.v1", "data": {}}\n')
    refused = run("usage", "publish", str(file), "--bootstrap", f"127.0.0.1:{port}", BYOK_KAFKA_TIMEOUT_SECONDS="600")
    assert refused.returncode == 1
    assert "time" in refused.stderr
    assert "cannot be reached" not in refused.stderr
