"""A command as it is typed, but in this process: an interpreter that starts anew takes seconds, and there are many."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import structlog
from typer.testing import CliRunner

from services.cli.commands import app


def typed(
    *arguments: str | Path,
    settings: Mapping[str, str] | None = None,
    stdin: str | bytes = "",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """How it ends, and what it says.

    With no settings but these, and in a directory of its own, for a stack that was started where one stands would be
    asked.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    with (
        TemporaryDirectory() as elsewhere,
        chdir(folder or elsewhere),
        patch.dict(os.environ, environment | dict(settings or {}), clear=True),
        _logs_as_they_were(),
        _in_no_loop(),
    ):
        done = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, prog_name="byok")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@contextmanager
def _in_no_loop() -> Iterator[None]:
    """A browser's driver leaves its loop running beneath the tests; a command begins its own."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


@contextmanager
def _logs_as_they_were() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**config)
