"""The console as a process: it starts alone, ends cleanly, and believes a proxy that it trusts, and no other."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlencode

import pytest
from cryptography.fernet import Fernet

from services.local.endpoints import Ports
from tests.patience import PATIENCE_SECONDS

TRUSTED = "127.0.0.2"


@pytest.fixture
def console(stack, tmp_path):
    """Its port, and the process; the other services are away."""
    port = Ports.free_block().console
    key_file = tmp_path / "session.key"
    key_file.write_text(Fernet.generate_key().decode())
    settings = {
        "BYOK_ENV": "development",
        "BYOK_JWT_JWKS_FILE": str(stack.signing_key.jwks_file),
        "BYOK_CONSOLE_PORT": str(port),
        "BYOK_CONSOLE_SESSION_KEY_FILE": str(key_file),
        "BYOK_TRUSTED_PROXIES": TRUSTED,
        "BYOK_REGISTRY_URL": "http://127.0.0.1:9",
        "BYOK_LEDGER_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "services", "console"]
    process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(port):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _answers(port):
    try:
        return _ask(port, "GET", "/healthz").status == 200
    except OSError:
        return False


def _ask(port, method, path, form="", headers=None, *, peer=TRUSTED):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, source_address=(peer, 0))
    connection.request(method, path, form, headers or {})
    return connection.getresponse()


def test_cookies_are_secure_where_a_trusted_proxy_says_that_it_took_the_request_over_tls(console, stack):
    port, process = console

    def secure(peer, proto):
        form = urlencode({"token": stack.token(scope="ledger:read")})
        headers = {"X-Forwarded-Proto": proto} if proto else {}
        answer = _ask(port, "POST", "/sign-in/token", form, headers, peer=peer)
        assert answer.status == 303
        return "Secure" in answer.headers["set-cookie"].split("; ")

    assert secure(TRUSTED, "https")
    assert not secure(TRUSTED, "http")
    assert not secure(TRUSTED, None)
    # Anybody else may say what it likes.
    assert not secure("127.0.0.1", "https")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert process.stdout.read() == b""
    assert b"Traceback" not in process.stderr.read()
