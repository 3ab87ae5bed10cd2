"""A worker whose database takes no more rows says so, waits, and books everything once there is room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.processes import WorkerProcess, send
from tests.integration.metering.workers import LONG_AGO, cards, key, node_call, payloads, plan
from tests.integration.real_parts import running_broker
from tests.patience import wait_for

_FULL = """
CREATE FUNCTION ledger.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER disk_is_full BEFORE INSERT ON ledger.entry FOR EACH STATEMENT EXECUTE FUNCTION ledger.disk_is_full();
CREATE TRIGGER disk_is_full BEFORE INSERT ON ledger.registry_change FOR EACH STATEMENT
  EXECUTE FUNCTION ledger.disk_is_full()
"""
_ROOM = """
DROP TRIGGER disk_is_full ON ledger.entry; DROP TRIGGER disk_is_full ON ledger.registry_change;
DROP FUNCTION ledger.disk_is_full()
"""


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[str]:
    with running_broker(tmp_path) as bootstrap:
        send(bootstrap, REGISTRY_CHANGES.name, payloads([*cards(), plan(3, "pro")]))
        yield bootstrap


@pytest.fixture
def worker(own_broker: str, ledger: Ledger, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess("worker", own_broker, ledger, tmp_path)
    worker.start()
    wait_for("the worker to be ready", lambda: worker.missing == set())
    yield worker
    worker.kill()


def test_a_worker_that_cannot_write_is_not_ready_until_it_can(
    worker: WorkerProcess, own_broker: str, ledger: Ledger
) -> None:
    def event(name: str) -> bytes:
        return json.dumps(node_call(name)).encode()

    send(own_broker, USAGE_EVENTS.name, [event("before")])
    wait_for("the first event", ledger.entries)
    ledger.execute(_FULL)
    assert worker.missing == set(), "nothing was tried yet"
    send(own_broker, USAGE_EVENTS.name, [event("while it is full")])
    wait_for("the worker to say so", lambda: worker.missing == {"booking"})
    assert "DiskFull, SQLSTATE 53100" in str(worker.said)
    send(own_broker, REGISTRY_CHANGES.name, payloads([key(4, (LONG_AGO, None))]))
    wait_for("the change to be waiting, too", lambda: worker.missing == {"booking", "registry_changes"})
    assert worker.running, "it waits, and needs no restart"
    ledger.execute(_ROOM)
    wait_for("the worker to be ready again", lambda: worker.missing == set())
    # Whichever of the two comes first, the key counts for both events in the end.
    wait_for("both events, at the price of an own key", lambda: _charged(ledger) == [1_000_000, 1_000_000])


def _charged(ledger: Ledger) -> list[int]:
    rows = ledger.rows("SELECT sum(charged_mc)::bigint AS charged_mc FROM ledger.entry GROUP BY event_id")
    return [row["charged_mc"] for row in rows]
