"""The registry as a process: it starts, says when it is ready, refuses what it cannot work with, and ends cleanly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.providers.probes import PROBES
from services.key_registry.rate_cards import packaged_cards
from tests.integration.key_registry.conftest import write_keyring
from tests.integration.key_registry.proxied_broker import ProxiedBroker, free_port
from tests.patience import PATIENCE_SECONDS

RUN = """
from services.key_registry.main import run
from services.key_registry.settings import RegistrySettings
run(RegistrySettings.load())
"""


@contextmanager
def process(settings: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        started = subprocess.Popen([sys.executable, "-c", RUN], env=settings, stderr=errors)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def status(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=PATIENCE_SECONDS).status_code
    except httpx.TransportError:
        return None


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProxiedBroker]:
    broker = ProxiedBroker(tmp_path)
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def settings(new_database: Callable[[], Any], tokens: Any, kek_file: Path, broker: ProxiedBroker) -> dict[str, str]:
    return {
        "BYOK_REGISTRY_DSN": new_database().dsn,
        "BYOK_KEK_FILE": str(kek_file),
        "BYOK_JWT_JWKS_FILE": str(tokens.files.jwks_file),
        "BYOK_KAFKA_BOOTSTRAP": broker.bootstrap,
        "BYOK_REGISTRY_PORT": str(free_port()),
    }


def test_it_is_ready_once_the_broker_has_the_log_and_ends_at_sigterm(
    settings: dict[str, str], broker: ProxiedBroker, tmp_path: Path, tokens: Any
) -> None:
    log, url = tmp_path / "log", f"http://127.0.0.1:{settings['BYOK_REGISTRY_PORT']}"
    with process(settings | {"BYOK_KAFKA_TIMEOUT_SECONDS": "5"}, log) as started:
        wait_for(lambda: status(f"{url}/healthz") == 200, log)
        answer = httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS)
        assert (answer.status_code, list(answer.json()["missing"])) == (503, ["outbox"])
        broker.start_new()
        wait_for(lambda: status(f"{url}/readyz") == 200, log)
        shipped = [f"rate_card:{document.card}" for document in packaged_cards()]
        shipped += [f"model_aliases:{names.provider}" for names in packaged_aliases()]
        assert [key for key, _ in broker.records(len(shipped))] == shipped
        # The broker goes away: it says so, and is ready all the same, for who leases a key needs none.
        broker.away()
        wait_for(
            lambda: "broker" in httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).json().get("impaired", {}), log
        )
        assert httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).json()["status"] == "ready"
        broker.back()
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).json() == {"status": "ready"}, log)
        # It goes away with changes waiting: neither the service nor its end is held up.
        broker.away()
        headers = tokens.service("plans:write")
        assert (
            httpx.put(
                f"{url}/v1/organizations/a/plan", json={"plan": "pro"}, headers=headers, timeout=PATIENCE_SECONDS
            ).status_code
            == 200
        )
        assert status(f"{url}/readyz") == 200
        assert (
            'byok_outbox_pending{outbox="registry-changes"} 1.0'
            in httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).text
        )
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=PATIENCE_SECONDS) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}, log.read_text()


@pytest.mark.slow
def test_it_destroys_the_key_before_a_rotation_in_time(
    settings: dict[str, str], broker: ProxiedBroker, tmp_path: Path, tokens: Any
) -> None:
    log, url = tmp_path / "log", f"http://127.0.0.1:{settings['BYOK_REGISTRY_PORT']}"
    here = dict.fromkeys(PROBES, "")
    limited = {"BYOK_ROTATION_UNDO_SECONDS": "1", "BYOK_PROVIDER_URLS": json.dumps(here)}
    headers = tokens.service("plans:write credentials:write", "acme")
    body = {"scope": {"type": "team", "id": "t"}, "provider": "openai", "api_key": "made-up-key-1"}
    with (
        process(settings | limited, log),
        httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as http,
    ):
        wait_for(lambda: status(f"{url}/healthz") == 200, log)
        assert http.get("/v1/providers").json()["verifiable"] == []
        http.put("/v1/organizations/acme/plan", json={"plan": "pro"}).raise_for_status()
        added = http.post("/v1/credentials", json=body).raise_for_status().json()
        path = f"/v1/credentials/{added['credential_id']}"
        rotated = http.post(f"{path}/rotate", json={"api_key": "made-up-key-2"}).raise_for_status().json()
        assert rotated["undo_until"] is not None
        assert rotated["check"]["reason"] == "not_verifiable"
        with psycopg.connect(settings["BYOK_REGISTRY_DSN"], autocommit=True) as database:
            left = "SELECT count(*) FROM registry.secret_version WHERE num_nonnulls(ciphertext, wrapped_key) > 0"
            wait_for(lambda: database.execute(left).fetchone() == (1,), log)
        assert http.post(f"{path}/rotate/undo").json()["code"] == "nothing_to_undo"


@pytest.mark.parametrize(
    ("name", "value"), [("PROVIDER_URLS", '{"openai": "http://a.example"}'), ("ROTATION_UNDO_SECONDS", "-1")]
)
def test_it_does_not_start_with_settings_that_make_no_sense(
    settings: dict[str, str], tmp_path: Path, name: str, value: str
) -> None:
    assert f"BYOK_{name}" in refusal(settings | {f"BYOK_{name}": value}, tmp_path / "log")


def refusal(settings: dict[str, str], log: Path) -> str:
    """The last words of a process that does not start."""
    with process(settings, log) as started:
        assert started.wait(timeout=PATIENCE_SECONDS) == 1
    return log.read_text().strip().splitlines()[-1]


@pytest.mark.slow
def test_it_does_not_start_on_a_database_that_is_not_migrated(
    settings: dict[str, str], new_database: Callable[[], Any], tmp_path: Path
) -> None:
    database = new_database()
    with psycopg.connect(database.admin_dsn, autocommit=True) as owner:
        owner.execute("DROP SCHEMA registry CASCADE")
    assert "byok db upgrade" in refusal(settings | {"BYOK_REGISTRY_DSN": database.dsn}, tmp_path / "log")


@pytest.mark.slow
def test_it_does_not_start_where_a_card_was_published_with_another_content(
    settings: dict[str, str], new_database: Callable[[], Any], tmp_path: Path
) -> None:
    database = new_database()
    with psycopg.connect(database.admin_dsn, autocommit=True) as owner:
        owner.execute("INSERT INTO registry.log VALUES (1, 'rate_card:2026-04-27', 'x', now())")
        owner.execute("UPDATE registry.log_head SET last_seq = 1, last_at = now()")
        owner.execute("INSERT INTO registry.rate_card VALUES ('2026-04-27', '2026-04-27T00:00:00Z', '{}', 1)")
    last = refusal(settings | {"BYOK_REGISTRY_DSN": database.dsn}, tmp_path / "log")
    assert "2026-04-27" in last


def test_it_does_not_start_without_a_key_encryption_key(settings: dict[str, str], tmp_path: Path) -> None:
    broken = write_keyring(tmp_path / "kek.json")
    broken.write_text("{}")
    assert "BYOK_KEK_FILE" in refusal(settings | {"BYOK_KEK_FILE": str(broken)}, tmp_path / "log")


@pytest.mark.slow
def test_it_ends_at_sigterm_while_it_waits_for_the_database(settings: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    away = settings | {"BYOK_REGISTRY_DSN": f"postgresql://x:y@127.0.0.1:{free_port()}/registry"}
    with process(away, log) as started:
        wait_for(lambda: "waiting for the database" in log.read_text(), log)
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=PATIENCE_SECONDS) == 0
