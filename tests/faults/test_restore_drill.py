"""The runbook's "Ledger restored" and "Registry restored", on the real parts, while usage is sent all the time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.admins import Admins
from tests.faults.oracle import judge
from tests.faults.restoring import Archive, dumped, restore_dump
from tests.faults.rig import Rig, running_rig
from tests.faults.runs import wait_for_rest
from tests.faults.usage import Known, Usage
from tests.kafka.needed import need_apache_kafka
from tests.patience import wait_for

pytestmark = pytest.mark.slow

_SEED = 7
_MORE_CHANGES, _MORE_ENTRIES = 12, 150
_HEAD = "SELECT last_seq FROM registry.log_head"
_FOLLOWED = "SELECT coalesce(max(seq), 0) AS seq FROM ledger.registry_change"
_BOOKED = "SELECT count(*) AS entries FROM ledger.entry"
_UNSENT = "SELECT h.last_seq - c.sent_seq AS unsent FROM registry.log_head h, registry.relay_cursor c"


class Drill:
    """A rig under load: usage is sent from beginning to end, keys and plans change until they are told to stop."""

    def __init__(self, rig: Rig, usage: Usage, admins: Admins) -> None:
        self.rig, self.usage, self.admins = rig, usage, admins

    def head(self) -> int:
        return int(self.rig.rows(_HEAD, database="registry")[0]["last_seq"])

    def followed(self) -> int:
        return int(self.rig.rows(_FOLLOWED)[0]["seq"])

    def booked(self) -> int:
        return int(self.rig.rows(_BOOKED)[0]["entries"])

    def go_on(self) -> None:
        """Until much more has changed and was booked."""
        changes, entries = self.followed() + _MORE_CHANGES, self.booked() + _MORE_ENTRIES
        wait_for("more changes", lambda: self.followed() >= changes)
        wait_for("more entries", lambda: self.booked() >= entries)

    def disaster(self) -> tuple[int, int]:
        """Nobody changes keys any more, and all that was changed is known; then all is killed. What was known."""
        self.admins.finish()
        wait_for("the log to be sent", lambda: self.rig.rows(_UNSENT, database="registry") == [{"unsent": 0}])
        head = self.head()
        wait_for("the log to be followed", lambda: self.followed() == head)
        booked = self.booked()
        self.rig.worker().kill()
        self.rig.registry.kill()
        return head, booked

    def bring_the_ledger_back(self, head: int, booked: int) -> None:
        """It is older now, and becomes what it was from the topic."""
        assert self.booked() < booked
        self.rig.worker().start()
        wait_for("the topic of changes to be read", lambda: self.followed() == head)

    def refuse(self, head: int) -> None:
        """The registry is older now, and does not start."""
        assert self.head() < head
        self.rig.registry.start()
        assert self.rig.registry.wait_exit() == 2
        said = self.rig.registry.log_file.read_text().strip().splitlines()[-1]
        # Whoever is asked first and knows more says so.
        lacks = rf"ends with change {self.head()}, and (the topic byok\.registry-changes|the ledger) has change (\d+)"
        found = re.search(lacks, said)
        assert found is not None, said
        assert self.head() < int(found[2]) <= head
        self.rig.registry.stop()
        # Nor is it brought half of the way: the ledger is older, too.
        done = self.rig.byok("registry", "rebuild", "--yes")
        assert (done.returncode, f"the topic has change {head}" in done.stderr) == (1, True), done.stderr

    def rebuild(self, head: int) -> dict[str, Any]:
        """What the operator is told; then the registry runs again, and the topic gets its whole log."""
        before = self.head()
        told: dict[str, Any] = json.loads(self.succeed("registry", "rebuild", "--yes", "--json"))
        assert (told["changes"], told["last_seq"], told["holes"]) == (head - before, head, 0)
        self.rig.registry.start()
        self.rig.registry.wait_ready()
        self.succeed("registry-log", "republish")
        return told

    def succeed(self, *arguments: str) -> str:
        done = self.rig.byok(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def end_lost(self, lost: list[str]) -> None:
        """Lost keys are shown, and ended by decision."""
        with self.rig.http() as http:
            for credential_id in lost:
                assert http.get(f"/v1/credentials/{credential_id}").json()["status"] == "lost"
        told = json.loads(self.succeed("registry", "rebuild", "--end-lost", "--yes", "--json"))
        assert told["lost_ended"] == len(lost)
        self.admins.answered.ended |= set(lost)

    def judge(self) -> None:
        """Nothing is lost, doubled or wrong, by the tests' own account and by `byok verify` in both its ways."""
        self.usage.finish()
        wait_for_rest(self.rig)
        verdict = judge(self.rig, self.usage.sent, self.admins.answered)
        assert verdict.findings == ()
        assert json.loads(self.succeed("verify", "--conservation", "--json"))["differences"] == 0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    need_apache_kafka()
    with running_rig(tmp_path / "data") as running:
        yield running


@pytest.fixture
def drill(rig: Rig) -> Iterator[Callable[[], Drill]]:
    """Begins the load; what a test has to prepare comes before."""
    known = Known()
    with rig.http() as http, closing(Usage(rig.kafka.bootstrap, _SEED, known)) as usage:
        admins = Admins(http, _SEED, known)

        def begin() -> Drill:
            rig.registry.start()
            rig.worker().start()
            rig.registry.wait_ready()
            admins.prepare()
            rig.worker().wait_ready()
            usage.start()
            admins.start()
            return Drill(rig, usage, admins)

        yield begin


def test_both_databases_from_dumps_of_different_moments(drill: Callable[[], Drill], rig: Rig, tmp_path: Path) -> None:
    running = drill()
    running.go_on()
    registry = dumped(rig, "registry", tmp_path)
    running.go_on()
    ledger = dumped(rig, "ledger", tmp_path)
    running.go_on()
    head, booked = running.disaster()
    restore_dump(rig, "registry", registry)
    restore_dump(rig, "ledger", ledger)
    running.refuse(head)
    running.bring_the_ledger_back(head, booked)
    told = running.rebuild(head)
    assert told["lost"], "no key was added meanwhile: this run proves little"
    running.end_lost(told["lost"])
    running.judge()


def test_the_whole_server_from_a_base_backup_and_archived_wal(drill: Callable[[], Drill], rig: Rig) -> None:
    archive = Archive(rig)
    try:
        running = drill()
        running.go_on()
        archive.back_up()
        running.go_on()
        archive.mark("drill")
        running.go_on()
        head, booked = running.disaster()
        archive.restore_to("drill")
        running.refuse(head)
        running.bring_the_ledger_back(head, booked)
        running.rebuild(head)
        running.judge()
    finally:
        archive.remove()
