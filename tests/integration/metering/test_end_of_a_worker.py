"""A worker ends when it is told to, or when it may not go on, whatever its threads are waiting for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from schemas.topics import REGISTRY_CHANGES
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.processes import WorkerProcess, send
from tests.integration.metering.workers import cards, payloads, plan
from tests.integration.real_parts import running_broker
from tests.patience import wait_for

# It allows itself ten seconds; on a slow machine it takes longer, and what hangs does not end at all.
_END_SECONDS = 40.0
_NOBODY = "127.0.0.1:1"
_WAITS_FOR_THE_LOCK = """
SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE NOT granted AND datname = current_database() AND relation = 'ledger.metering_pause'::regclass
"""


@contextmanager
def _running(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    worker.start()
    try:
        yield worker
    finally:
        worker.kill()


@contextmanager
def _hanging_in_the_database(worker: WorkerProcess, ledger: Ledger) -> Iterator[None]:
    """A statement of one of the worker's threads that is not answered."""
    with closing(psycopg.connect(ledger.owner_dsn)) as locking:
        locking.execute("LOCK TABLE ledger.metering_pause IN ACCESS EXCLUSIVE MODE")
        wait_for("a thread that hangs", lambda: ledger.rows(_WAITS_FOR_THE_LOCK))
        yield


def test_it_ends_while_the_broker_is_away_from_the_start(ledger: Ledger, tmp_path: Path) -> None:
    with _running(WorkerProcess("worker", _NOBODY, ledger, tmp_path)) as worker:
        wait_for("it to wait for the broker", lambda: worker.missing)
        worker.ask_to_end()
        assert worker.wait_exit(_END_SECONDS) == 0


@pytest.mark.parametrize("told", [True, False], ids=["told to", "may not go on"])
def test_it_ends_while_a_thread_hangs_in_the_database(told: bool, ledger: Ledger, tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        send(broker, REGISTRY_CHANGES.name, payloads([*cards(), plan(3, "pro")]))
        with _running(WorkerProcess("worker", broker, ledger, tmp_path)) as worker:
            worker.wait_ready()
            with _hanging_in_the_database(worker, ledger):
                if told:
                    worker.ask_to_end()
                else:
                    send(broker, REGISTRY_CHANGES.name, payloads([plan(3, "enterprise")]))
                assert worker.wait_exit(_END_SECONDS) == (0 if told else 1)
        assert ("RegistryForkedError" in worker.log_file.read_text()) != told
