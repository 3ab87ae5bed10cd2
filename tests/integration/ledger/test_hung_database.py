"""A database that takes every connection and answers nothing: what is told of it comes in time, and is not stale."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ledger import conservation
from services.ledger.main import build_app
from tests.faults.proxy import Proxy
from tests.patience import PATIENCE_SECONDS

# Nobody, and more than there are threads for requests.
WAITING = (0, 200)


@pytest.fixture
def proxy(stack):
    proxy = Proxy()
    proxy.forward(stack.ports.postgres)
    yield proxy
    proxy.close()


@pytest.fixture
def client(stack, database, proxy):
    settings = stack.settings(database)
    dsn = settings.ledger_dsn.get_secret_value().replace(stack.ports.address("postgres"), f"127.0.0.1:{proxy.port}")
    app = build_app(settings.model_copy(update={"ledger_dsn": SecretStr(dsn)}))
    with TestClient(app, base_url="http://ledger.test") as client:
        yield client
        proxy.away()


@pytest.mark.parametrize("waiting", WAITING)
def test_metrics_are_told_while_the_database_holds_its_answers(client, proxy, books, reader, monkeypatch, waiting):
    monkeypatch.setattr(conservation, "STALE_SECONDS", 0.0)
    assert 'byok_registry_seq{service="ledger"}' in client.get("/metrics").text
    proxy.hold()
    with ThreadPoolExecutor(waiting + 1) as requests:
        try:
            for _ in range(waiting):
                requests.submit(client.get, "/v1/organizations/acme/summary", headers=reader)
            page = requests.submit(client.get, "/metrics").result(PATIENCE_SECONDS)
            # What was read within the last second is told once more.
            while "byok_registry_seq{" in page.text:
                page = requests.submit(client.get, "/metrics").result(PATIENCE_SECONDS)
            alive = requests.submit(client.get, "/healthz").result(PATIENCE_SECONDS)
        finally:
            proxy.away()
    assert (alive.status_code, page.status_code) == (200, 200)
    assert "byok_build_info" in page.text
    assert "byok_conservation_residual_events{" not in page.text


def test_what_stands_there_is_told_again_once_it_answers(client, proxy, stack, books):
    proxy.hold()
    assert "byok_registry_seq{" not in client.get("/metrics").text
    proxy.away()
    proxy.forward(stack.ports.postgres)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "byok_registry_seq{" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
