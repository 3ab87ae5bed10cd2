"""`byok verify --replay` without a broker: it ends, and says why."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.patience import PATIENCE_SECONDS


@pytest.mark.parametrize("listening", [False, True], ids=["refuses", "is silent"])
def test_a_broker_that_is_away_ends_it(listening: bool) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if listening:
            port.listen()
        settings = {
            "BYOK_KAFKA_BOOTSTRAP": f"127.0.0.1:{port.getsockname()[1]}",
            "BYOK_KAFKA_TIMEOUT_SECONDS": "1",
            "BYOK_LEDGER_DSN": "never asked",
            "BYOK_REPLAY_DSN": "never asked",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
        done = subprocess.run(
            [sys.executable, "-m", "services", "verify", "--replay"],
            env=environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    assert done.returncode == 3, done.stderr
    assert "the broker does not answer" in done.stderr
    assert done.stdout == ""
