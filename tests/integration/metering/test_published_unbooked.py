"""`byok usage publish` where metering does not book: what is not known is said to be unknown, and is no success."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

from schemas.topics import USAGE_EVENTS
from services.cli.usage.booked import Booked
from services.cli.usage.outcome import Outcome, SentRecords, await_outcome
from services.cli.usage.rejected_rows import RejectedRow
from services.local.endpoints import Ports
from tests.e2e.running import environment
from tests.integration.metering.ledgers import Ledger
from tests.patience import PATIENCE_SECONDS

ROW = '{"time": "2026-11-02T00:00:00Z", "org_id": "acme", "user_id": "u", "tool": "search"}\n'


def publish(folder: Path, broker: str, dsn: str, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "calls.jsonl"
    file.write_text(ROW * 3)
    own = environment() | {"BYOK_KAFKA_BOOTSTRAP": broker, "BYOK_LEDGER_DSN": dsn}
    command = [
        sys.executable,
        "-m",
        "services",
        "usage",
        "publish",
        str(file),
        "--type",
        "usage.tool_call.v1",
        "--json",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=own)


def test_what_nobody_books_is_exit_3_and_how_many_is_said(broker: str, ledger: Ledger, tmp_path: Path) -> None:
    done = publish(tmp_path, broker, ledger.dsn, "--wait", "1")
    said = json.loads(done.stdout)
    assert (done.returncode, said["sent"], said["recorded"], said["unknown"]) == (3, 3, 0, 3)
    assert "Metering has not booked 3 of the events" in done.stderr
    assert publish(tmp_path, broker, ledger.dsn, "--wait", "0").returncode == 0


def test_without_the_ledger_that_is_named_nothing_is_sent(broker: str, tmp_path: Path) -> None:
    nobody = f"postgresql://x:y@127.0.0.1:{Ports.free_block().postgres}/ledger"
    done = publish(tmp_path, broker, nobody)
    assert (done.returncode, done.stdout) == (3, "")
    assert "the database does not answer" in done.stderr


class Place(NamedTuple):
    """What the producer's future says of a record."""

    partition: int
    offset: int


def test_it_is_given_up_only_when_nothing_more_is_booked(ledger: Ledger) -> None:
    sent = SentRecords()
    for offset in (4, 5, 9):
        sent.add(Place(1, offset), [offset * 10, offset * 10 + 1])
    ledger.execute(
        "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
        f" VALUES ('c', '{USAGE_EVENTS.name}', 1, 0, 4), ('other', '{USAGE_EVENTS.name}', 1, 0, 90);"
        "INSERT INTO ledger.dead_letter"
        " (source_partition_id, source_offset, source_index, reason, detail, payload, masked)"
        " SELECT source_partition_id, 5, 1, 'invalid_event', 'data.calls: must be a number', '', false"
        " FROM ledger.source_partition WHERE cluster_id = 'c'"
    )
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        # Once booked on after half a minute, and never again.
        if 30 <= now < 30 + seconds:
            ledger.execute("UPDATE ledger.source_partition SET next_offset = 6 WHERE cluster_id = 'c'")

    with psycopg.connect(ledger.dsn, autocommit=True) as connection:
        outcome = await_outcome(
            Booked(connection), "c", sent, datetime.now(UTC), seconds=40, clock=lambda: now, sleep=sleep
        )
    assert 70 <= now < 71
    # Of the four events that are covered one is a dead letter; the rest are no charges from here, so duplicates.
    assert outcome == Outcome(0, 3, [RejectedRow(51, "invalid_event", "data.calls", "must be a number")], 2)
