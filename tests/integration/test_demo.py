"""`byok demo` as a process, on a stack of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.local.data_dir import DataDir
from tests.patience import PATIENCE_SECONDS

DEMO = (sys.executable, "-m", "services", "demo", "--events", "2000")


def nothing_is_left(folder: Path) -> bool:
    data = DataDir(folder)
    try:
        return data.try_lock_for_children()
    finally:
        data.unlock()


@pytest.mark.slow
def test_the_demo_shows_the_savings_agrees_with_the_core_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--data-dir", tmp_path / "data"], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "2,000 entries re-derived with the pure core: 0 differences" in done.stdout
    assert "entries were put right" in done.stdout
    assert "derived again   the same" in done.stdout
    assert max(map(len, done.stdout[: done.stdout.index("Where to look next")].splitlines())) <= 80
    assert nothing_is_left(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.5, 4.0])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, seconds: float) -> None:
    demo = subprocess.Popen([*DEMO, "--data-dir", tmp_path / "data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(seconds)
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 130, errors
    assert output == b""
    assert b"Traceback" not in errors
    assert not (tmp_path / "data").exists() or nothing_is_left(tmp_path / "data")


def test_a_directory_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([*DEMO, "--data-dir", tmp_path], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
