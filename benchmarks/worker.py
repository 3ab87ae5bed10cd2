"""One metering worker as a process, beside a stack that has none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.stack import Stack


@contextmanager
def metering(stack: Stack, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """As the stack would start it, with ``settings`` instead of its own; what it says is added to ``log``."""
    with log.open("ab") as said:
        command = [sys.executable, "-m", "services", "metering"]
        worker = subprocess.Popen(command, env=os.environ | stack.environment() | settings, stdout=said, stderr=said)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait(timeout=30)
