"""What the tests of `byok up` share: waiting on conditions, and asking whether a process is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


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
