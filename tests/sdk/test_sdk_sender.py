"""Events reach the ledger whatever stands between: refused connections, errors after the fact, forks, kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from byok_sdk import AsyncMeter, ClosedError, Meter, Settings, SpoolFullError
from byok_sdk.slots import existing
from byok_sdk.spool import read_counts
from byok_sdk.status import main as status
from byok_sdk.status import total

from tests.patience import PATIENCE_SECONDS, wait_for
from tests.sdk.foreign_ledger import ForeignLedger, Told, accepts, foreign_ledger

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def ledger() -> Iterator[ForeignLedger]:
    with foreign_ledger() as running:
        yield running


@pytest.fixture
def settings(ledger: ForeignLedger, tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        told: dict[str, Any] = {
            "registry_url": NOWHERE,
            "ledger_url": ledger.url,
            "token": "made-up",
            "spool_dir": tmp_path / "spool",
            "durability": "process",
            "linger_seconds": 0.0,
            "adopt_seconds": 0.2,
        }
        return Settings(**told | changes)

    return make


@pytest.fixture
def new_meter(settings: Callable[..., Settings]) -> Iterator[Callable[..., Meter]]:
    made: list[Meter] = []

    def make(**changes: Any) -> Meter:
        made.append(Meter(settings(**changes)))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


def record(meter: Meter, events: int, run_id: str = "r1") -> None:
    run = meter.run(org="acme", user="u1", run_id=run_id)
    for _ in range(events):
        run.tool("search")


def test_what_was_answered_with_an_error_after_it_was_taken_comes_again_in_the_same_bytes(
    ledger: ForeignLedger, new_meter: Callable[..., Meter]
) -> None:
    troubles = iter([Told(500), Told(0), Told(429, {}, {"Retry-After": "1"})])
    ledger.decide = lambda events: next(troubles, accepts(events))
    meter = new_meter(linger_seconds=0.3)
    record(meter, 3)
    assert meter.flush(PATIENCE_SECONDS)
    assert len(ledger.bodies) == 4
    assert len({ledger.bodies[0], *ledger.bodies[1:]}) == 1
    assert len(ledger.taken) == 3
    assert meter.counts()[:4] == (3, 3, 0, 0)
    assert meter.shown().sending_trouble is None


def test_one_poisoned_event_is_found_and_set_aside_and_its_neighbours_go_on(
    ledger: ForeignLedger, new_meter: Callable[..., Meter], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def decide(events: list[dict[str, Any]]) -> Told:
        poisoned = any(event["data"].get("tool") == "poison" for event in events)
        return Told(400, {"code": "malformed_json", "detail": "no"}) if poisoned else accepts(events)

    ledger.decide = decide
    meter = new_meter(linger_seconds=0.5)
    record(meter, 40)
    meter.run(org="acme", user="u1", run_id="r2").tool("poison")
    record(meter, 40, "r3")
    assert meter.flush(PATIENCE_SECONDS)
    assert meter.counts()[:4] == (81, 80, 1, 0)
    assert len(ledger.bodies) < 25
    meter.close(0)
    folder = str(tmp_path / "spool")
    assert status(["status", folder]) == 1
    assert "rejected                 1 (set aside; see byok-sdk rejected)" in capsys.readouterr().out
    assert status(["rejected", folder]) == 1
    assert '"code": "malformed_json"' in capsys.readouterr().out
    ledger.decide = accepts
    assert status(["resend", folder, "--code", "malformed_json"]) == 0
    again = new_meter()
    record(again, 1, "r4")
    assert again.flush(PATIENCE_SECONDS)
    assert status(["status", folder]) == 0
    assert "accepted                82  = acknowledged + rejected + waiting" in capsys.readouterr().out


def test_a_batch_has_at_most_a_thousand_events(ledger: ForeignLedger, new_meter: Callable[..., Meter]) -> None:
    meter = new_meter(linger_seconds=0.5)
    record(meter, 1_500)
    assert meter.flush(PATIENCE_SECONDS)
    assert sum(map(len, ledger.batches)) == len(ledger.taken) == 1_500
    assert max(map(len, ledger.batches)) <= 1_000


def test_a_full_spool_raises_or_blocks_and_nothing_is_dropped(
    ledger: ForeignLedger, new_meter: Callable[..., Meter]
) -> None:
    ledger.decide = lambda _: Told(503)
    meter = new_meter(spool_events_max=2, when_full="raise")
    record(meter, 2)
    with pytest.raises(SpoolFullError):
        record(meter, 1, "r2")
    blocking = new_meter(spool_events_max=2, when_full="block", block_seconds=PATIENCE_SECONDS)
    record(blocking, 2, "r3")
    ledger.decide = accepts
    record(blocking, 3, "r4")
    assert blocking.flush(PATIENCE_SECONDS)
    assert meter.flush(PATIENCE_SECONDS)
    assert len(ledger.taken) == 7


def fork_and(work: Callable[[], bool]) -> int:
    """The exit code of a child that does it; one that hangs dies."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(int(PATIENCE_SECONDS))
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_after_a_fork_each_process_sends_its_own(
    ledger: ForeignLedger, new_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    meter = new_meter()

    def child() -> bool:
        record(meter, 5, "child")
        return meter.close(PATIENCE_SECONDS)

    record(meter, 3, "parent")
    assert fork_and(child) == 0
    record(meter, 3, "parent again")
    assert meter.flush(PATIENCE_SECONDS)
    assert len(ledger.taken) == 11
    assert total(read_counts(path) for _, path in existing(tmp_path / "spool"))[:4] == (11, 11, 0, 0)


RUNNER = """
import os, signal, sys
from pathlib import Path
from byok_sdk import Meter, Settings
url, folder, end = sys.argv[1:]
meter = Meter(Settings(registry_url=url, ledger_url=url, token="made-up", spool_dir=Path(folder)))
for number in range(7):
    meter.run(org="acme", user="u1", run_id=f"r{number}").tool("search")
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run_process(url: str, folder: Path, end: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", RUNNER, url, str(folder), end], timeout=PATIENCE_SECONDS, check=False
    ).returncode


def test_what_a_killed_process_left_is_sent_by_one_that_runs(
    ledger: ForeignLedger, new_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    meter = new_meter()
    record(meter, 1, "before")
    assert meter.flush(PATIENCE_SECONDS)
    assert run_process(NOWHERE, tmp_path / "spool", "killed") == -signal.SIGKILL
    wait_for("the orphans to be sent", lambda: len(ledger.taken) == 8)
    wait_for(
        "the counts to agree",
        lambda: total(read_counts(path) for _, path in existing(tmp_path / "spool"))[:4] == (8, 8, 0, 0),
    )


def test_a_process_that_ends_sends_what_it_has_first(ledger: ForeignLedger, tmp_path: Path) -> None:
    assert run_process(ledger.url, tmp_path / "spool", "ends") == 0
    assert len(ledger.taken) == 7


def test_what_was_not_sent_at_the_end_is_sent_by_the_next(
    ledger: ForeignLedger, new_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    ledger.decide = lambda _: Told(503)
    meter = new_meter()
    record(meter, 4)
    began = time.monotonic()
    assert not meter.close(0.1)
    assert time.monotonic() - began < 40
    with pytest.raises(ClosedError):
        record(meter, 1)
    ledger.decide = accepts
    following = new_meter()
    record(following, 1, "r2")
    assert following.flush(PATIENCE_SECONDS)
    assert len(ledger.taken) == 5
    assert [number for number, _ in existing(tmp_path / "spool")] == [1]


def test_an_async_runner_records_the_same_events_and_its_loop_goes_on_meanwhile(
    ledger: ForeignLedger, new_meter: Callable[..., Meter], settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async def run() -> None:
        async with AsyncMeter(settings(spool_dir=tmp_path / "async", durability="fsync")) as meter:
            run = meter.run(org="acme", user="u1", run_id="r1")
            await run.tool("search")
            # A disk that takes long: another process holds the file's lock.
            writing = meter._emitter._opened().spool._writing
            writing.acquire()
            # A loop that is held up does not come to let go of it; then this does.
            held_up = threading.Timer(30, writing.release)
            held_up.start()
            recording = asyncio.create_task(run.tool("search"))
            for _ in range(1_000):
                await asyncio.sleep(0)
            assert not recording.done()
            held_up.cancel()
            writing.release()
            await recording
            assert await meter.flush(PATIENCE_SECONDS)

    asyncio.run(run())
    record(new_meter(spool_dir=tmp_path / "sync"), 2)
    wait_for("the same events", lambda: sum(map(len, ledger.batches)) == 4)
    # Two ids, each come twice: what is async and what is not names an act alike.
    assert len(ledger.taken) == 2
