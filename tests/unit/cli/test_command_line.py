"""The command line itself: quick to load, and clear about settings that are missing."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ["pydantic", "psycopg", "kafka", "aiokafka", "faust", "fastapi", "sqlalchemy", "cryptography"]


def test_loading_the_command_line_imports_nothing_heavy():
    script = f"import sys, services.__main__; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_a_setting_that_cannot_be_used_is_named_and_ends_with_status_2():
    environment = os.environ | {"BYOK_REGISTRY_PORT": "not-a-port-but-perhaps-a-secret"}
    command = [sys.executable, "-m", "services", "registry"]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2
    assert "BYOK_REGISTRY_PORT" in refused.stderr
    assert "perhaps-a-secret" not in refused.stderr + refused.stdout
