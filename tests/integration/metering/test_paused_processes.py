"""Real workers on a real broker while metering is paused: killed, started again, joined by others, and released."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.topics import REGISTRY_CHANGES, USAGE_EVENTS
from services.metering.dead_letters import pause
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.processes import WorkerProcess, send
from tests.integration.metering.workers import cards, node_call, payloads
from tests.integration.real_parts import running_broker
from tests.patience import wait_for

BAD = 60
GOOD = 400
_SETTINGS = {
    # Far less than what waits, so that the stream's buffer is full while nothing is booked.
    "BYOK_METERING_BATCH_RECORDS": "10",
    "BYOK_METERING_PAUSE_MIN_EVENTS": "20",
}


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[str]:
    """A broker with a registry log, and usage events that nobody else sends."""
    with running_broker(tmp_path) as bootstrap:
        send(bootstrap, REGISTRY_CHANGES.name, payloads(cards()))
        yield bootstrap


@pytest.fixture
def new_worker(own_broker: str, ledger: Ledger, tmp_path: Path) -> Iterator[Callable[[], WorkerProcess]]:
    """Makes workers of one group; ends what is left of them."""
    made: list[WorkerProcess] = []

    def make() -> WorkerProcess:
        made.append(WorkerProcess(f"worker-{len(made)}", own_broker, ledger, tmp_path, _SETTINGS))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()


def _events(ledger: Ledger) -> int:
    return int(ledger.rows("SELECT coalesce(sum(events), 0) AS events FROM ledger.covered_range")[0]["events"])


def _assert_every_offset_is_covered(ledger: Ledger) -> None:
    for row in ledger.rows("SELECT * FROM ledger.source_partition"):
        query = "SELECT * FROM ledger.covered_range WHERE source_partition_id = %s ORDER BY from_offset"
        ranges = ledger.rows(query, row["source_partition_id"])
        ends = [(row["origin_offset"], row["origin_offset"]), *((r["from_offset"], r["to_offset"]) for r in ranges)]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
        assert ends[-1][1] == row["next_offset"]


@pytest.mark.slow
def test_a_pause_outlives_kills_restarts_and_new_workers_and_nothing_is_lost(
    own_broker: str, ledger: Ledger, new_worker: Callable[[], WorkerProcess]
) -> None:
    first = new_worker()
    first.start()
    wait_for("the first worker to be ready", lambda: first.missing == set())
    send(own_broker, USAGE_EVENTS.name, [b"no event"] * BAD)
    wait_for("a pause", lambda: first.missing == {"pause"})
    send(own_broker, USAGE_EVENTS.name, [json.dumps(node_call(f"{n:03}")).encode() for n in range(GOOD)])
    booked = _events(ledger)
    assert 20 <= booked < BAD

    first.kill()
    second = new_worker()
    for worker in (first, second):
        worker.start()
    for worker in (first, second):
        wait_for(f"{worker.name} to be paused", lambda worker=worker: worker.missing == {"pause"})  # type: ignore[misc]
    # It ends in time although it holds a batch, and its partitions go to the other, which books nothing either.
    second.stop()
    assert first.missing == {"pause"}
    assert _events(ledger) == booked

    def resume() -> None:
        with connect(ledger.dsn, "test", autocommit=True) as connection:
            pause.end(connection)

    # What the broken producer had sent may be enough for another pause: then it takes another word.
    wait_for("every event", lambda: resume() or _events(ledger) == BAD + GOOD)
    assert len(ledger.entries()) == GOOD
    (letters,) = ledger.rows("SELECT count(*) AS dead_letters FROM ledger.dead_letter")
    assert letters["dead_letters"] == BAD
    _assert_every_offset_is_covered(ledger)
    wait_for("the worker to be ready again", lambda: first.missing == set())
