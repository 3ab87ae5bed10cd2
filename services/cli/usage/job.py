"""What `byok usage publish` is asked to do, checked before anything is read or sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import BinaryIO, Self

from schemas.fields import parse_time
from schemas.usage_events import EVENT_MODELS
from services.cli.usage.formats import FileFormat, TimeFormat
from services.cli.usage.mapping import FIELDS, EventBuilder, columns_for, parse_pairs
from services.cli.usage.sources import CsvTable, Lines, Rows, jsonl_rows
from services.cli.usage.times import Shift, time_reader
from services.messages.usage_events import RejectedError
from services.runtime.command_failed import CommandFailed

_STANDARD_INPUT = Path("-")
_LOCAL_BROKER = "127.0.0.1:9092"


@dataclass(frozen=True)
class Job:
    """One file to publish, and how."""

    file: Path
    file_format: FileFormat
    maps: Mapping[str, str]
    fixed: Mapping[str, str]
    event_type: str | None
    source: str
    delimiter: str
    time_format: TimeFormat
    assume_utc: bool
    start: datetime | None
    pace: float | None
    batch_events: int
    limit: int | None
    broker: str
    refused_file: Path | None
    dry_run: bool

    @classmethod
    def from_options(
        cls,
        *,
        file: Path,
        file_format: FileFormat | None,
        maps: list[str],
        sets: list[str],
        event_type: str | None,
        source: str | None,
        delimiter: str | None,
        time_format: TimeFormat,
        assume_utc: bool,
        start: str | None,
        pace: float | None,
        batch_events: int,
        limit: int | None,
        bootstrap: str | None,
        refused_file: Path | None,
        dry_run: bool,
    ) -> Self:
        """The job that the options describe. Raises CommandFailed."""
        if source is None and file == _STANDARD_INPUT:
            raise CommandFailed("standard input has no name to tell its events by; give it a --source")
        if event_type is not None and event_type not in EVENT_MODELS:
            raise CommandFailed(f"--type {event_type}: must be one of {', '.join(EVENT_MODELS)}")
        if pace is not None and not (isfinite(pace) and pace > 0):
            raise CommandFailed("--pace: must be greater than 0")
        delimiter = delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise CommandFailed("--delimiter: must be one character, and neither a quote nor a line end")
        with _usage_errors():
            return cls(
                file=file,
                file_format=file_format or _guess(file),
                maps=parse_pairs("--map", maps),
                fixed=parse_pairs("--set", sets),
                event_type=event_type,
                source=source or f"file:{file.name}",
                delimiter=delimiter,
                time_format=time_format,
                assume_utc=assume_utc,
                start=None if start is None else _start(start),
                pace=pace,
                batch_events=batch_events,
                limit=limit,
                broker=bootstrap or _LOCAL_BROKER,
                refused_file=refused_file,
                dry_run=dry_run,
            )

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes. Raises CommandFailed where it cannot be read."""
        if self.file == _STANDARD_INPUT:
            yield sys.stdin.buffer
            return
        try:
            opened = self.file.open("rb")
        except OSError as error:
            raise CommandFailed(f"{self.file}: {error.strerror}") from None
        with opened:
            yield opened

    def size(self) -> int | None:
        """The file's size in bytes, where it has one."""
        return self.file.stat().st_size if self.file.is_file() else None

    def rows(self, lines: Lines) -> tuple[Rows, EventBuilder]:
        """The rows to send and what makes events of them. Raises CommandFailed where they do not fit together."""
        with _usage_errors():
            columns: Mapping[str, str] | None = None
            if self.file_format is FileFormat.CSV:
                table = CsvTable(lines, self.delimiter)
                columns = columns_for(self.maps, table.columns)
                rows = table.rows()
            else:
                rows = jsonl_rows(lines)
                # Objects need not have the same keys, so there is no header to check the mapping against.
                columns = columns_for(self.maps, (*FIELDS, *self.maps.values())) if self.maps else None
            return islice(rows, self.limit), self._builder(columns)

    def _builder(self, columns: Mapping[str, str] | None) -> EventBuilder:
        return EventBuilder(
            columns=columns,
            fixed=self.fixed,
            event_type=self.event_type,
            source=self.source,
            read_time=time_reader(self.time_format, assume_utc=self.assume_utc),
            shift=Shift(self.start),
        )


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except RejectedError as error:
        raise CommandFailed(f"--set {error}") from None
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def _guess(file: Path) -> FileFormat:
    return FileFormat.CSV if file.suffix.lower() in {".csv", ".tsv"} else FileFormat.JSONL


def _start(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ValueError(f"--start {text}: {error}") from None
