"""What a file may look like; on its own so that `byok --help` need not load what reads it."""

from __future__ import annotations

from enum import StrEnum


class FileFormat(StrEnum):
    """How the rows of a file are written."""

    JSONL = "jsonl"
    CSV = "csv"


class TimeFormat(StrEnum):
    """How a file writes its times."""

    ISO = "iso"
    UNIX = "unix"
    UNIX_MS = "unix-ms"
