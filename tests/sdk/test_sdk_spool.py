"""The spool: what returned from ``add`` is on disk, the counts agree, and one process holds a slot."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from byok_sdk.delivery import SetAside
from byok_sdk.errors import NotRecordedError, SpoolFullError
from byok_sdk.slots import existing, take_free, try_take
from byok_sdk.spool import Counts, Spool, read_counts, read_set_aside

from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "1.sqlite"


def counts(spool: Spool) -> Counts:
    return spool.counts()._replace(oldest_waiting=None)


def test_what_was_added_is_there_after_the_process_in_its_order_and_to_the_byte(path: Path) -> None:
    first = Spool(path, durability="process")
    for number in range(5):
        first.add(f'{{"n":{number}}}'.encode())
    # Nothing is closed: the process was killed.
    second = Spool(path)
    assert [each.body for each in second.due(100, 10_000)] == [f'{{"n":{number}}}'.encode() for number in range(5)]
    assert counts(second) == Counts(accepted=5, waiting=5, held_bytes=35)


def test_a_batch_has_its_bounds_and_one_event_at_least(path: Path) -> None:
    spool = Spool(path, durability="process")
    for _ in range(4):
        spool.add(b"x" * 100)
    assert len(spool.due(3, 10_000)) == 3
    assert len(spool.due(10, 202)) == 2
    assert len(spool.due(10, 1)) == 1


def test_every_event_is_acknowledged_or_set_aside_or_waits(path: Path) -> None:
    spool = Spool(path, durability="process")
    for _ in range(4):
        spool.add(b"{}")
    first, second, third, _ = (each.row for each in spool.due(10, 1_000))
    spool.settle([first], [SetAside(second, "unpriced_model", "no card")])
    spool.hold([third], 60)
    assert counts(spool) == Counts(4, 1, 1, 2, 6)
    assert spool.counts().balanced
    assert len(spool.due(10, 1_000)) == 1
    assert read_set_aside(path, 10) == [("unpriced_model", "no card", b"{}")]
    assert spool.put_back(["invalid_event"]) == 0
    assert spool.put_back(older_than=60) == 0
    assert spool.put_back(["unpriced_model"]) == 1
    assert counts(spool) == Counts(4, 1, 0, 3, 6) == read_counts(path)._replace(oldest_waiting=None)
    # What was held is due at once for the next process: the clock it was held by is not its own.
    assert len(Spool(path).due(10, 1_000)) == 3


def test_a_full_spool_drops_nothing(path: Path) -> None:
    spool = Spool(path, durability="process", events_max=2, bytes_max=100)
    spool.add(b"x" * 60)
    with pytest.raises(SpoolFullError):
        spool.add(b"x" * 41)
    spool.add(b"x")
    with pytest.raises(SpoolFullError):
        spool.add(b"x")
    assert counts(spool) == Counts(2, 0, 0, 2, 61)
    # Who waits for room gets it once something was acknowledged.
    added = threading.Thread(target=spool.add, args=(b"yy",), kwargs={"patience": 20})
    added.start()
    spool.settle([spool.due(1, 1_000)[0].row])
    added.join(PATIENCE_SECONDS)
    assert counts(spool) == Counts(3, 1, 0, 2, 3)


def test_a_full_disk_raises_and_records_nothing(path: Path) -> None:
    spool = Spool(path)
    connection = spool._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    # SQLite's own bound: it answers as it does where the file system has no room.
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    recorded = 0
    with pytest.raises(NotRecordedError, match="full"):  # noqa: PT012 - how many fit is SQLite's affair
        for _ in range(100):
            spool.add(b"x" * 1_000)
            recorded += 1
    assert recorded > 0
    assert spool.counts()[:4] == (recorded, 0, 0, recorded)
    connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    spool.add(b"x")
    assert spool.waiting == recorded + 1


def test_what_is_no_spool_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"something of somebody else's, which is no database at all")
    before = path.read_bytes()
    with pytest.raises(NotRecordedError, match="cannot be opened"):
        Spool(path)
    assert path.read_bytes() == before
    path.unlink()
    sqlite3.connect(path).execute("PRAGMA user_version = 7").close()
    with pytest.raises(NotRecordedError, match="version 7"):
        Spool(path)


def test_one_holds_a_slot_and_its_end_frees_it(tmp_path: Path) -> None:
    first, second = take_free(tmp_path / "spool"), take_free(tmp_path / "spool")
    assert (first.number, second.number) == (1, 2)
    assert try_take(tmp_path / "spool", 1) is None
    first.release()
    assert take_free(tmp_path / "spool").number == 1
    assert not list(existing(tmp_path / "spool"))
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_child_does_not_hold_what_its_parent_held(tmp_path: Path) -> None:
    slot = take_free(tmp_path)
    released, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(released, 1)
        # Nor does it take it later: its SQLite has the parent's connection.
        os._exit(0 if take_free(tmp_path).number == 2 else 1)
    assert try_take(tmp_path, 1) is None
    slot.release()
    os.write(told, b"!")
    assert os.waitpid(child, 0)[1] == 0
    assert take_free(tmp_path).number == 1


def test_the_files_are_for_their_owner_alone(path: Path) -> None:
    spool = Spool(path)
    spool.add(b"{}")
    assert {file.name: file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {
        "1.sqlite": 0,
        "1.sqlite-shm": 0,
        "1.sqlite-wal": 0,
    }
