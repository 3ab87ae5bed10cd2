"""What a file may look like; on its own so that `byok --help` need not load what reads it."""

from __future__ import annotations

from enum import StrEnum


class FileFormat(StrEnum):
    """How the rows of a file are written."""

    JSONL = "jsonl"
    CSV = "csv"
    JSON = "json"
    """One JSON document with an array of objects."""


class TimeFormat(StrEnum):
    """How a file writes its times, where it needs no pattern to say so."""

    ISO = "iso"
    UNIX = "unix"
    UNIX_MS = "unix-ms"
