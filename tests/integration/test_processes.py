"""Supervision: a crash is told, stops are ordered and bounded, and no child outlives its parent."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from services.local import processes
from services.local.processes import Child, Program, StackError, StopRequested, StopSwitch, Supervisor
from tests.integration.supervised import first_line, is_gone, start_script
from tests.patience import PATIENCE_SECONDS, wait_for

# Starts two children, one of which ignores SIGTERM, prints their ids, and waits until it is stopped.
PARENT = f"""
import json, os, sys
from pathlib import Path
from services.local.processes import *
folder, switch = Path(sys.argv[1]), StopSwitch()
with stop_on_signals(switch):
    supervisor = Supervisor(folder, switch)
    script = "trap '' TERM INT; sleep 600 & echo helper $!; wait; wait"
    stubborn = Program("stubborn", ("sh", "-c", script), dict(os.environ), folder, stop=((signal.SIGTERM, 0.3),))
    plain = Program("plain", ("sleep", "600"), dict(os.environ), folder)
    children = [supervisor.start(stubborn), supervisor.start(plain)]
    try:
        while not children[0].last_lines():
            supervisor.check()
        helper = int(children[0].last_lines()[0].split()[1])
        print(json.dumps([*(child.pid for child in children), helper]), flush=True)
        if sys.argv[2] == "starting":
            supervisor.wait_until(lambda: False, time.monotonic() + {PATIENCE_SECONDS}, lambda: "never")
        supervisor.watch()
    except StopRequested:
        pass
    finally:
        supervisor.stop()
"""


@pytest.fixture
def switch() -> StopSwitch:
    return StopSwitch()


@pytest.fixture
def supervisor(tmp_path, switch):
    supervisor = Supervisor(tmp_path, switch)
    yield supervisor
    supervisor.stop()


@pytest.fixture
def parents():
    """Parents that a test starts, ended even where the test fails."""
    parents = []
    yield parents
    for parent in parents:
        parent.kill()
        parent.communicate(timeout=PATIENCE_SECONDS)


def program(name: str, folder: Path, *command: str, **more) -> Program:
    return Program(name, command, dict(os.environ), folder, **more)


def soon(seconds: float = PATIENCE_SECONDS) -> float:
    return time.monotonic() + seconds


def test_a_crash_names_the_child_its_status_and_its_last_words(supervisor, tmp_path):
    supervisor.start(program("healthy", tmp_path, "sleep", "600"))
    supervisor.start(program("frail", tmp_path, "sh", "-c", "echo out; echo last words >&2; exit 3"))
    with pytest.raises(StackError, match="frail ended with exit status 3") as crash:
        supervisor.watch()
    assert "last words" in str(crash.value)
    assert str(tmp_path / "frail.log") in str(crash.value)


def test_a_crash_by_a_signal_names_the_signal(supervisor, tmp_path):
    child = supervisor.start(program("frail", tmp_path, "sleep", "600"))
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(StackError, match=r"frail was ended by SIGKILL(.|\n)*it wrote nothing"):
        supervisor.watch()


def test_a_child_that_dies_while_another_is_awaited_is_told_at_once(supervisor, tmp_path):
    supervisor.start(program("frail", tmp_path, "false"))
    with pytest.raises(StackError, match="frail ended with exit status 1"):
        supervisor.wait_until(lambda: False, soon(), lambda: "too late")


def test_the_last_lines_are_those_of_this_run(tmp_path):
    for words in ("first run", "second run"):
        child = Child(program("frail", tmp_path, "echo", words), tmp_path / "frail.log")
        wait_for("its end", lambda child=child: child.exit_status is not None)  # type: ignore[misc]
    assert child.last_lines() == ["second run"]
    assert (tmp_path / "frail.log").read_text() == "first run\nsecond run\n"
    assert (tmp_path / "frail.log").stat().st_mode & 0o777 == 0o600


def test_a_large_log_is_set_aside_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_LOG_BYTES_MAX", 10)
    (tmp_path / "frail.log").write_text("more than ten bytes")
    Child(program("frail", tmp_path, "true"), tmp_path / "frail.log").stop()
    assert (tmp_path / "frail.log").read_text() == ""
    assert (tmp_path / "frail.log.1").read_text() == "more than ten bytes"


def test_a_program_that_does_not_exist_is_a_clear_error(supervisor, tmp_path):
    with pytest.raises(StackError, match="ghost cannot be started"):
        supervisor.start(program("ghost", tmp_path, str(tmp_path / "ghost")))


def test_children_stop_in_the_reverse_order_of_their_start(supervisor, tmp_path):
    order = tmp_path / "order"
    script = "trap 'echo $0 >> order; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    children = [supervisor.start(program(name, tmp_path, "sh", "-c", script, name)) for name in ("db", "api", "worker")]
    wait_for("all traps set", lambda: all(child.last_lines() == ["ready"] for child in children))
    supervisor.stop()
    assert order.read_text().split() == ["worker", "api", "db"]


def test_a_child_that_ignores_sigterm_is_killed_in_time_with_its_helpers(supervisor, tmp_path):
    script = "trap '' TERM; sleep 600 & echo $!; wait"
    child = supervisor.start(program("stubborn", tmp_path, "sh", "-c", script, stop=((signal.SIGTERM, 0.2),)))
    wait_for("the helper's id", lambda: len(child.last_lines()) == 1)
    begin = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - begin < PATIENCE_SECONDS
    assert child.exit_status == -signal.SIGKILL
    wait_for("the end of its helper", lambda: is_gone(int(child.last_lines()[0])))


def test_a_program_that_is_meant_to_end_may_end(supervisor, tmp_path):
    supervisor.run(program("errand", tmp_path, "true", ends=True), soon())
    supervisor.check()


def test_an_errand_that_fails_or_hangs_is_told(supervisor, tmp_path):
    with pytest.raises(StackError, match="errand ended with exit status 1"):
        supervisor.run(program("errand", tmp_path, "false", ends=True), soon())
    supervisor.stop()
    with pytest.raises(StackError, match="errand did not end in time"):
        supervisor.run(program("errand", tmp_path, "sleep", "600", ends=True), soon(0.1))


def test_a_call_that_hangs_holds_up_neither_a_stop_nor_the_deadline(supervisor, switch):
    with pytest.raises(StackError, match="no topics"):
        supervisor.wait_for_call(lambda: time.sleep(600), soon(0.1), lambda: "no topics")
    with pytest.raises(StopRequested):
        supervisor.wait_for_call(lambda: (switch.request(), time.sleep(600)), soon(), lambda: "no topics")


def test_a_call_that_fails_says_why(supervisor):
    def refuse() -> None:
        raise ConnectionError("refused")

    with pytest.raises(StackError, match="no topics: refused"):
        supervisor.wait_for_call(refuse, soon(), lambda: "no topics")


@pytest.mark.parametrize("phase", ["starting", "running"])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["alone", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sent_twice_ends_parent_and_children_cleanly(tmp_path, parents, number, send, phase):
    parent = start_script(PARENT, tmp_path, phase)
    parents.append(parent)
    children = first_line(parent)
    send(parent.pid, number)
    send(parent.pid, number)
    _, errors = parent.communicate(timeout=PATIENCE_SECONDS)
    assert (parent.returncode, errors) == (0, "")
    for pid in children:
        wait_for("the end of every child", partial(is_gone, pid))


def test_killing_the_parent_outright_ends_its_children(tmp_path):
    parent = start_script(PARENT, tmp_path, "running")
    stubborn, plain, helper = first_line(parent)
    try:
        parent.kill()
        parent.communicate(timeout=PATIENCE_SECONDS)
        wait_for("the end of both children", lambda: is_gone(stubborn) and is_gone(plain))
    finally:
        # A grandchild is beyond the kernel's help; services of ours start none.
        os.kill(helper, signal.SIGKILL)
