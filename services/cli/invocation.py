"""How `byok` is called here, for texts that tell people what to type."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def byok() -> str:
    """``byok`` where that finds this very program, else the path to it from where the user stands."""
    beside = Path(sys.executable).with_name("byok")
    if not beside.is_file():
        return f"{shlex.quote(sys.executable)} -m services"
    found = shutil.which("byok")
    if found is not None and Path(found).resolve() == beside.resolve():
        return "byok"
    near = os.path.relpath(beside)
    return shlex.quote(str(beside) if near.startswith("..") else near)
