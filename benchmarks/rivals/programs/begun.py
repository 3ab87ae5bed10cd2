"""From when on a program is measured: it says so itself, for nobody outside sees when it has its first event."""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

BEGUN = Path("begun.json")
"""Where it runs."""


@cache
def say_begun() -> None:
    """Note the time, and the processor time that was used until now; nothing when called again."""
    BEGUN.write_text(json.dumps({"at": time.time(), "processor_seconds": time.process_time()}))
