"""What is booked stays booked: restarts on the same data, kill -9 of every process, and nothing left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.running import Stack, node_call, start_stack, token_usage
from tests.patience import PATIENCE_SECONDS, wait_for

LONG_AGO = "2026-05-01T00:00:00Z"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _processes_of(stack_pid: int) -> list[int]:
    """Every process below ``stack_pid``, from the parents that the kernel names."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, frontier = [], [stack_pid]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        found += frontier
    return found


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _child(stack: Stack, command: str) -> int:
    for pid in _processes_of(stack.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if command.encode() in words:
            return pid
    raise AssertionError(f"no {command} below {stack.process.pid}")


@pytest.mark.slow
def test_a_stack_goes_on_with_everything_that_was_booked_or_registered(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        org_id = stack.new_organization("pro")
        credential_id = stack.add_key(org_id, "personal", "ada", "anthropic", since=LONG_AGO)
        stack.settle()
        stack.publish(node_call(org_id, id="1"))
        booked = stack.entries(org_id, 1)
    assert stack.process.returncode == 0
    with start_stack(data_dir) as stack:
        assert stack.entries(org_id) == booked
        assert stack.registry.get(f"/v1/credentials/{credential_id}").json()["status"] == "active"
        stack.publish(node_call(org_id, id="2"))
        assert [entry["charged_mc"] for entry in stack.entries(org_id, 2)] == [1_000_000, 1_000_000]
        stack.add_key(org_id, "team", "red", "openai")
        stack.settle()


@pytest.mark.slow
def test_killed_with_9_it_leaves_no_process_and_starts_again(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        stack.publish(node_call(org_id, id="1"))
        booked = stack.entries(org_id, 1)
        children = _processes_of(stack.process.pid)
        assert len(children) >= 5
        stack.process.kill()
        stack.process.wait(PATIENCE_SECONDS)
        wait_for("the end of every process", lambda: not any(_is_running(pid) for pid in children))
    with start_stack(data_dir) as stack:
        assert stack.entries(org_id) == booked


@pytest.mark.slow
def test_ctrl_c_to_the_whole_group_ends_everything(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        children = _processes_of(stack.process.pid)
        os.killpg(stack.process.pid, signal.SIGINT)
        stack.process.wait(PATIENCE_SECONDS)
        assert not any(_is_running(pid) for pid in children)


@pytest.mark.slow
def test_a_service_that_crashes_is_named_and_takes_the_stack_down(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        children = _processes_of(stack.process.pid)
        os.kill(_child(stack, "metering"), signal.SIGKILL)
        assert stack.process.wait(PATIENCE_SECONDS) == 1
        assert not any(_is_running(pid) for pid in children)
    assert "metering" in data_dir.with_name("data-up.log").read_text()


@pytest.mark.slow
def test_a_worker_killed_under_load_books_nothing_twice_and_loses_nothing(data_dir: Path) -> None:
    with start_stack(data_dir) as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        batches = [[token_usage(org_id, id=f"{batch}-{n}") for n in range(250)] for batch in range(40)]
        for batch in batches:
            stack.publish(*batch)
        stack.entries(org_id, 250)
        os.kill(_child(stack, "metering"), signal.SIGKILL)
        stack.process.wait(PATIENCE_SECONDS)
    with start_stack(data_dir) as stack:
        # The stack sends again what is not booked; somebody else sends everything, and nothing counts twice.
        for place in [stack.publish(*batch) for batch in batches]:
            stack.wait_covered(place)
        events = [entry["event_id"] for entry in stack.entries(org_id, 10_000)]
        assert len(events) == len(set(events)) == 10_000
        assert sum(entry["list_mc"] for entry in stack.entries(org_id)) == 10_000 * 1_200_000
