"""A command as it is typed, in this process: so often no interpreter need start anew."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner

from services.__main__ import app


def typed(
    arguments: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """How it ends, and what it says.

    In a directory of its own, for a stack that was started where one stands would be asked, and with no settings but
    these.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    with chdir(folder), patch.dict(os.environ, environment | dict(settings or {}), clear=True):
        done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
