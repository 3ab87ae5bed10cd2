"""What the embedded stack acknowledged outlasts it: kill -9 of every process, an orderly stop, and a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.e2e.running import USAGE, Stack, node_call, start_stack
from tests.patience import PATIENCE_SECONDS, wait_for

PER_REQUEST = 5


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _children(stack: Stack) -> dict[int, bytes]:
    """The command lines of the processes that `byok up` has started, by process id."""
    found = {}
    for task in Path(f"/proc/{stack.process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def _child(stack: Stack, word: str) -> int:
    (pid,) = [pid for pid, command in _children(stack).items() if word.encode() in command.split(b"\0")]
    return pid


def _kill(stack: Stack) -> None:
    """End every process at once, as the machine would."""
    children = _children(stack)
    os.kill(stack.process.pid, signal.SIGSTOP)
    for pid in (*children, stack.process.pid):
        os.kill(pid, signal.SIGKILL)
    stack.process.wait(PATIENCE_SECONDS)


@contextmanager
def _standing_still(stack: Stack) -> Iterator[None]:
    """Nothing is booked, and the worker does not know why; it is not woken, for the test ends it."""
    os.kill(_child(stack, "metering"), signal.SIGSTOP)
    yield


def _post(stack: Stack, org_id: str, *ids: str) -> int:
    events = [node_call(org_id, id=event_id) for event_id in ids]
    return stack.ledger.post("/v1/usage-events", json=events).status_code


def _publish(stack: Stack, org_id: str, *ids: str) -> None:
    """Over Kafka, as a runner does: compressed, and by a producer that the broker numbers."""
    producer = KafkaProducer(
        bootstrap_servers=stack.told["kafka"],
        acks="all",
        enable_idempotence=True,
        compression_type="gzip",
        linger_ms=50,
    )
    values = [json.dumps(node_call(org_id, id=event_id)).encode() for event_id in ids]
    for sent in [producer.send(USAGE, value, org_id.encode(), headers=[("trace", b"1")]) for value in values]:
        sent.get(PATIENCE_SECONDS)
    producer.close(timeout=PATIENCE_SECONDS)


def _charged(stack: Stack, org_id: str) -> list[str]:
    rows = stack.sql.execute("SELECT event_id FROM ledger.entries WHERE org_id = %s ORDER BY event_id", (org_id,))
    return [row["event_id"] for row in rows]


def _dead_letters(stack: Stack) -> int:
    row = stack.sql.execute("SELECT count(*) AS n FROM ledger.dead_letters").fetchone()
    return 0 if row is None else int(row["n"])


def _verify(stack: Stack) -> None:
    command = [sys.executable, "-m", "services", "verify"]
    environment = dict(os.environ) | {"BYOK_LEDGER_DSN": stack.told["ledger_dsn"]}
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def _files(data_dir: Path) -> list[Path]:
    return list((data_dir / "journal").iterdir())


@pytest.mark.slow
def test_killed_with_9_it_books_once_what_it_had_acknowledged(data_dir: Path) -> None:
    posted = [f"h-{number:02}" for number in range(4 * PER_REQUEST)]
    published = [f"k-{number:02}" for number in range(20)]
    with start_stack(data_dir) as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        place = stack.send(b"booked before", org_id)
        stack.dead_letters(place)
        with _standing_still(stack):
            for start in range(0, len(posted), PER_REQUEST):
                assert _post(stack, org_id, *posted[start : start + PER_REQUEST]) == 202
            _publish(stack, org_id, *published)
            stack.send(b"not booked before", org_id)
            assert _charged(stack, org_id) == []
            _kill(stack)
    with start_stack(data_dir) as stack:
        wait_for("every event", lambda: len(_charged(stack, org_id)) >= len(posted + published))
        assert _charged(stack, org_id) == sorted(posted + published)
        wait_for("the other dead letter", lambda: _dead_letters(stack) >= 2)
        wait_for("an empty journal", lambda: not _files(data_dir))
        _kill(stack)
    with start_stack(data_dir) as stack:
        # Sent last, booked last: whatever came again would be before it.
        stack.send(b"the last word", org_id)
        wait_for("the last word", lambda: _dead_letters(stack) >= 3)
        assert _charged(stack, org_id) == sorted(posted + published)
        assert _dead_letters(stack) == 3
        # Every offset is covered once, every event counted, every entry what its evidence makes it.
        _verify(stack)


@pytest.mark.slow
def test_stopped_in_a_pause_it_keeps_what_waits_for_the_resumption(data_dir: Path) -> None:
    bad, ids = 30, [f"e-{number}" for number in range(PER_REQUEST)]
    settings: dict[str, Any] = {"BYOK_METERING_PAUSE_SHARE": "0.5", "BYOK_METERING_PAUSE_MIN_EVENTS": "10"}
    with start_stack(data_dir, **settings) as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        for _ in range(bad):
            stack.send(b"no event", org_id)
        pause = "SELECT 1 FROM ledger.metering_pause WHERE resumed_at IS NULL"
        wait_for("a pause", lambda: stack.sql.execute(pause).fetchone())
        assert _post(stack, org_id, *ids) == 202
        assert _charged(stack, org_id) == []
    assert stack.process.returncode == 0
    assert _files(data_dir)
    assert "not booked yet is kept" in data_dir.with_name("data-up.log").read_text()
    with start_stack(data_dir, **settings) as stack:
        assert _charged(stack, org_id) == []

        def resumed() -> bool:
            # As often as it takes: bad ones that had not been booked before the first pause lead to another.
            stack.sql.execute("UPDATE ledger.metering_pause SET resumed_at = now() WHERE resumed_at IS NULL")
            return len(_charged(stack, org_id)) >= len(ids)

        wait_for("every event", resumed)
        wait_for("every dead letter", lambda: _dead_letters(stack) >= bad)
        wait_for("an empty journal", lambda: not _files(data_dir))
        assert _charged(stack, org_id) == ids
        assert _dead_letters(stack) == bad


@pytest.mark.slow
def test_with_a_full_disk_nothing_is_acknowledged_and_with_room_again_everything(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        journal = _child(stack, "services.local.embedded.journal")
        _, hard = resource.prlimit(journal, resource.RLIMIT_FSIZE)
        # What a full disk is to this process: no file of it grows, not even its log.
        resource.prlimit(journal, resource.RLIMIT_FSIZE, (0, hard))
        assert _post(stack, org_id, "e-1") == 503
        resource.prlimit(journal, resource.RLIMIT_FSIZE, (hard, hard))
        wait_for("room", lambda: _post(stack, org_id, "e-1") == 202)
        wait_for("the event", lambda: _charged(stack, org_id))
        assert _charged(stack, org_id) == ["e-1"]
