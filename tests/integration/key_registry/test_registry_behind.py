"""A registry whose database is older than what was sent from it changes nothing, leases nothing, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from tests.integration.key_registry.older_copies import copied, exchanged, new_ledger
from tests.integration.key_registry.proxied_broker import ProxiedBroker, free_port
from tests.integration.key_registry.test_registry_process import status, wait_for
from tests.patience import PATIENCE_SECONDS

HEADERS = "credentials:write credentials:lease plans:write"


class Registry:
    """Registry processes, one at a time, on databases of the test's choice."""

    def __init__(self, settings: dict[str, str], headers: dict[str, str], folder: Path) -> None:
        self.url = f"http://127.0.0.1:{settings['BYOK_REGISTRY_PORT']}"
        self.log = folder / "log"
        self._settings, self._headers = settings, headers

    @contextmanager
    def process(self, database: Any, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = os.environ | self._settings | {"BYOK_REGISTRY_DSN": database.dsn} | more
        with self.log.open("ab") as errors:
            process = subprocess.Popen([sys.executable, "-m", "services", "registry"], env=environment, stderr=errors)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)

    @contextmanager
    def running(self, database: Any) -> Iterator[httpx.Client]:
        """One that is alive; it may not be ready."""
        http = httpx.Client(base_url=self.url, headers=self._headers, timeout=PATIENCE_SECONDS)
        with self.process(database), http:
            wait_for(lambda: status(f"{self.url}/healthz") == 200, self.log)
            yield http

    def refusal(self, database: Any, **more: str) -> tuple[int, str]:
        """How one ends that does not start, and its last words."""
        with self.process(database, **more) as process:
            code = process.wait(PATIENCE_SECONDS)
        return code, self.log.read_text().strip().splitlines()[-1]

    def ready(self) -> bool:
        return status(f"{self.url}/readyz") == 200

    def says_behind(self) -> bool:
        missing = httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS).json().get("missing", {})
        return "byok registry rebuild" in missing.get("log", "")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedBroker]:
    broker = ProxiedBroker(tmp_path_factory.mktemp("broker"))
    try:
        broker.start_new()
        yield broker
    finally:
        broker.close()


@pytest.fixture(autouse=True)
def there(broker: ProxiedBroker) -> None:
    """Each test begins with the broker."""
    broker.back()


@pytest.fixture(scope="module")
def registry(tokens: Any, kek_file: Path, broker: ProxiedBroker, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    settings = {
        "BYOK_KEK_FILE": str(kek_file),
        "BYOK_JWT_JWKS_FILE": str(tokens.files.jwks_file),
        "BYOK_KAFKA_BOOTSTRAP": broker.bootstrap,
        "BYOK_REGISTRY_PORT": str(free_port()),
        "BYOK_KAFKA_TIMEOUT_SECONDS": "5",
    }
    return Registry(settings, tokens.service(HEADERS), tmp_path_factory.mktemp("registry"))


def plan(http: httpx.Client, org_id: str, name: str = "pro") -> httpx.Response:
    return http.put(f"/v1/organizations/{org_id}/plan", json={"plan": name})


def lease(http: httpx.Client) -> httpx.Response:
    return http.post("/v1/lease", json={"org_id": "acme", "user_id": "uma", "team_id": "t", "provider": "openai"})


class Grown:
    """A database, and a copy from before its last two changes, all of which are on the topic."""

    def __init__(self, registry: Registry, database: Any, postgres: Any) -> None:
        self.database = database
        with registry.running(database) as http:
            plan(http, "acme").raise_for_status()
            key = {"org_id": "acme", "scope": {"type": "team", "id": "t"}, "provider": "openai"}
            self.key = http.post("/v1/credentials", json=key | {"api_key": "sk-made-up-for-test-1"}).json()
            wait_for(registry.ready, registry.log)
        self.older = copied(postgres, database)
        with registry.running(database) as http:
            http.delete(f"/v1/credentials/{self.key['credential_id']}").raise_for_status()
            plan(http, "later").raise_for_status()
            wait_for(lambda: registry.ready() and database.rows(_UNSENT) == [(0,)], registry.log)


SHIPPED = len(packaged_cards()) + len(packaged_aliases())
"""How many changes a registry makes of itself, when it begins."""
_UNSENT = "SELECT h.last_seq - c.sent_seq FROM registry.log_head h, registry.relay_cursor c"
_SENT = "SELECT sent_seq, end_offset FROM registry.relay_cursor"
_LOG = "SELECT seq, payload FROM registry.log ORDER BY seq"


@pytest.fixture(scope="module")
def grown(registry: Registry, new_database: Callable[[], Any], postgres: Any) -> Grown:
    return Grown(registry, new_database(), postgres)


@pytest.fixture
def older(grown: Grown, postgres: Any) -> Any:
    """A database that lacks the last two changes, of the test's own."""
    return copied(postgres, grown.older)


def test_it_does_not_start_where_the_topic_has_more(older: Any, registry: Registry) -> None:
    before = older.rows(_LOG)
    code, last = registry.refusal(older)
    assert code == 2, last
    assert f"ends with change {SHIPPED + 2}, and the topic byok.registry-changes has change {SHIPPED + 4}" in last
    assert "byok registry rebuild" in last
    assert older.rows(_LOG) == before


@pytest.mark.slow
def test_it_does_not_start_where_the_topic_has_another_change(older: Any, registry: Registry) -> None:
    """As after a restore with a release that did not look, which took numbers again."""
    older.rows(
        """WITH taken AS (
             INSERT INTO registry.log SELECT seq + 1, key, '{}', changed_at + interval '1 s' FROM registry.log
             ORDER BY seq DESC LIMIT 1 RETURNING seq, changed_at)
           UPDATE registry.log_head SET last_seq = seq, last_at = changed_at FROM taken RETURNING 1"""
    )
    code, last = registry.refusal(older)
    assert (code, f"change {SHIPPED + 3} of the registry's log is another one" in last) == (2, True), last


@pytest.mark.slow
def test_it_does_not_start_where_the_ledger_has_more(
    grown: Grown, older: Any, registry: Registry, postgres: Any
) -> None:
    """Also where the broker does not answer."""
    ledger = new_ledger(postgres, grown.database)
    away = f"127.0.0.1:{free_port()}"
    code, last = registry.refusal(older, BYOK_LEDGER_DSN=ledger.dsn, BYOK_KAFKA_BOOTSTRAP=away)
    assert (code, f"ends with change {SHIPPED + 2}, and the ledger has change {SHIPPED + 4}" in last) == (2, True), last


@pytest.mark.slow
def test_what_is_found_out_later_stops_changes_and_leases(
    older: Any, registry: Registry, broker: ProxiedBroker
) -> None:
    before = older.rows(_LOG), older.rows(_SENT)
    broker.away()
    with registry.running(older) as http:
        # Nobody can know yet: a change could take a number that is taken, a lease would most likely be right.
        refused = plan(http, "other")
        assert (refused.status_code, refused.json()["code"]) == (503, "registry_unconfirmed")
        assert lease(http).json()["secret"] == "sk-made-up-for-test-1"
        broker.back()
        wait_for(lambda: registry.says_behind(), registry.log)
        for answer in (plan(http, "other"), lease(http)):
            assert (answer.status_code, answer.json()["code"]) == (503, "registry_behind")
        assert http.get("/v1/credentials", params={"org_id": "acme"}).status_code == 200
    assert (older.rows(_LOG), older.rows(_SENT)) == before


@pytest.mark.slow
def test_a_registry_that_was_only_started_again_goes_on_when_the_broker_is_back(
    grown: Grown, registry: Registry, broker: ProxiedBroker
) -> None:
    broker.away()
    with registry.running(grown.database) as http:
        assert plan(http, "other").json()["code"] == "registry_unconfirmed"
        broker.back()
        wait_for(registry.ready, registry.log)
        plan(http, "other").raise_for_status()


@pytest.mark.slow
def test_a_database_that_becomes_older_under_a_running_registry_is_noticed(
    grown: Grown, older: Any, registry: Registry, postgres: Any
) -> None:
    """As a fail-over to a standby that lacked the last changes does, or a restore in the same place."""
    with registry.running(grown.database) as http:
        wait_for(registry.ready, registry.log)
        exchanged(postgres, grown.database, older)
        wait_for(lambda: registry.says_behind(), registry.log)
        assert plan(http, "other").json()["code"] == "registry_behind"
        # It goes on by itself once it has what it lacked.
        exchanged(postgres, grown.database, older)
        wait_for(registry.ready, registry.log)
        plan(http, "another").raise_for_status()
