"""What the tests of `byok up` share: waiting on conditions, and asking whether a process is left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANGING_SECONDS = 20
"""What took as long as this hung; how long less it takes is the machine's affair."""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    """Return when ``condition`` holds; fail the test past the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even where nobody has collected its exit status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def start_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Python running ``script`` as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def first_line(process: subprocess.Popen[str]) -> Any:
    """The first line it prints, as JSON; fails with its error output when it ends before."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)
