"""Three real workers, killed in turn, and two loaders, one by SQL and one by HTTP, that miss and repeat nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from services.ledger.main import build_app
from services.ledger.settings import LedgerSettings
from services.local.dev_tokens import create_signing_key, sign_token, token_claims
from tests.integration.metering.feed import Place, feed, read
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.processes import WorkerProcess, send
from tests.integration.metering.workers import LONG_AGO, cards, key, node_call, payloads, plan
from tests.integration.real_parts import running_broker
from tests.patience import PATIENCE_SECONDS, wait_for

ROUNDS = 5
EVENTS = 400


class Loader(threading.Thread):
    """Goes on from its last position until it is told to end, and then until nothing is new."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.found: list[Place] = []

    def run(self) -> None:
        while True:
            ending = self.ending.is_set()
            page = self.page(self.found[-1].position if self.found else 0)
            self.found += page
            if ending and not page:
                return

    def page(self, after: int) -> list[Place]:
        raise NotImplementedError


class SqlLoader(Loader):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__()
        self._connection = connection

    def page(self, after: int) -> list[Place]:
        return read(self._connection, after, 50)


class HttpLoader(Loader):
    def __init__(self, client: TestClient, token: str) -> None:
        super().__init__()
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    def page(self, after: int) -> list[Place]:
        answer = self._client.get("/v1/entries", params={"after": after, "wait": 0.5}, headers=self._headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["void_after"] is None
        found = [Place(entry["position"], entry["entry_id"]) for entry in page["entries"]]
        assert page["next_position"] == (found[-1].position if found else after)
        return found


@contextmanager
def http_loader(ledger: Ledger, broker: str, folder: Path) -> Iterator[HttpLoader]:
    signing = create_signing_key(folder)
    claims = token_claims(
        "warehouse", "ledger:read", issued_at=datetime.now(UTC), lifetime=timedelta(hours=1), org_id="*"
    )
    settings = LedgerSettings.model_validate(
        {"env": "development", "kafka_bootstrap": broker, "ledger_dsn": ledger.dsn, "jwt_jwks_file": signing.jwks_file}
    )
    with TestClient(build_app(settings), base_url="http://ledger.test") as client:
        yield HttpLoader(client, sign_token(signing.key_file, claims))


def _booked(ledger: Ledger) -> int:
    return int(ledger.rows("SELECT count(*) AS n FROM ledger.entry WHERE kind = 'charge'")[0]["n"])


def _booked_beyond(ledger: Ledger, how_many: int) -> bool:
    return _booked(ledger) > how_many


@pytest.mark.slow
def test_two_loaders_read_all_that_three_workers_book_while_they_are_killed_in_turn(
    ledger: Ledger, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(tmp_path))
        send(broker, REGISTRY_CHANGES.name, payloads(cards()))
        workers = [WorkerProcess(f"worker-{number}", broker, ledger, tmp_path) for number in range(3)]
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        by_sql = SqlLoader(stack.enter_context(psycopg.connect(ledger.dsn, autocommit=True)))
        loaders: list[Loader] = [by_sql, stack.enter_context(http_loader(ledger, broker, tmp_path))]
        for loader in loaders:
            loader.start()
        for round_ in range(ROUNDS):
            events = [json.dumps(node_call(f"{round_}-{number}")).encode() for number in range(EVENTS)]
            # Some come twice, which books nothing.
            send(broker, USAGE_EVENTS.name, [*events, *events[::7]])
            wait_for("a part of it to be booked", partial(_booked_beyond, ledger, round_ * EVENTS))
            victim = workers[round_ % len(workers)]
            victim.kill()
            victim.start()
        wait_for("all to be booked", lambda: _booked(ledger) == ROUNDS * EVENTS)
        send(broker, REGISTRY_CHANGES.name, payloads([plan(3, "pro"), key(4, (LONG_AGO, None))]))
        wait_for("it to be corrected", lambda: len(ledger.entries()) == 3 * ROUNDS * EVENTS)
        wait_for("every place", lambda: len(feed(ledger)) == 3 * ROUNDS * EVENTS)
        for loader in loaders:
            loader.ending.set()
            loader.join(PATIENCE_SECONDS)
    entries = sorted(str(entry["entry_id"]) for entry in ledger.entries())
    for loader in loaders:
        assert [place.position for place in loader.found] == list(range(1, len(entries) + 1))
        assert sorted(str(place.entry_id) for place in loader.found) == entries
