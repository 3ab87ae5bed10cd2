"""What `byok usage publish` is asked to do, checked before anything is read or sent."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import ValidationError

from schemas.fields import parse_time
from services.cli.usage.cells import is_there, may_be_missing
from services.cli.usage.fields import counts_of, kind_of, parse_pairs
from services.cli.usage.formats import FileFormat
from services.cli.usage.identity import LINE, ROW, Identity, identity_from
from services.cli.usage.json_document import document_rows
from services.cli.usage.long_format import LongFormat
from services.cli.usage.mapping import EventBuilder, Mapped, columns_for
from services.cli.usage.profile import Profile, in_words, load
from services.cli.usage.selection import Selection, parse_where
from services.cli.usage.sources import CsvTable, Lines, Rows, jsonl_rows
from services.cli.usage.text_encoding import as_utf8
from services.cli.usage.times import Shift, TimeReader, time_reader, time_zone
from services.messages.usage_events import RejectedError
from services.runtime.command_failed import CommandFailed

_STANDARD_INPUT = Path("-")


@dataclass(frozen=True)
class Job:
    """One file to publish, and how."""

    file: Path
    how: Profile
    start: datetime | None
    pace: float | None
    batch_events: int
    limit: int | None
    refused_file: Path | None
    wait_seconds: float
    dry_run: bool

    @classmethod
    def from_options(
        cls,
        *,
        file: Path,
        profile_name: str | None,
        options: dict[str, Any],
        start: str | None,
        pace: float | None,
        batch_events: int,
        limit: int | None,
        refused_file: Path | None,
        wait_seconds: float,
        dry_run: bool,
    ) -> Self:
        """The job that the options describe; ``options`` are those that a profile may hold. Raises CommandFailed."""
        if pace is not None and not (isfinite(pace) and pace > 0):
            raise CommandFailed("--pace: must be greater than 0")
        with _usage_errors():
            # Through the validator once more: what makes sense apart need not do so together.
            given = Profile.model_validate(options)
            how = given if profile_name is None else load(profile_name).with_options(given)
            how = Profile.model_validate(how.model_dump(exclude_unset=True))
            job = cls(
                file=file,
                how=how,
                start=None if start is None else _start(start),
                pace=pace,
                batch_events=batch_events,
                limit=limit,
                refused_file=refused_file,
                wait_seconds=wait_seconds,
                dry_run=dry_run,
            )
            job._check()
        return job

    def _check(self) -> None:
        """Raise ValueError for what makes no sense, before the file is opened."""
        how = self.how
        if how.source is None and self.file == _STANDARD_INPUT:
            raise ValueError("standard input has no name to tell its events by; give it a --source")
        self._require_given()
        identity_from(how.id_from)
        if how.id_from and {"id"} & {*how.maps, *how.sets}:
            raise ValueError("--id-from and a field id given otherwise exclude each other")
        if how.unit_from is not None and (not how.id_from or {LINE, ROW} & set(how.id_from)):
            raise ValueError("--unit-from: --id-from names the columns by which rows belong together")
        _ = self.read_time

    def _require_given(self) -> None:
        """Raise ValueError where a profile needs to be told what its file lacks."""
        how = self.how
        given = {*how.maps, *how.sets, *how.defaults}
        given |= {name for name in ("source", "time_zone") if getattr(how, name) is not None}
        lacking = (
            {} if how.about is None else {name: say for name, say in how.about.to_give.items() if name not in given}
        )
        if lacking:
            raise ValueError(f"the file does not have all; give {'; '.join(lacking.values())}")

    @property
    def source(self) -> str:
        """The source of events that name none."""
        return self.how.source or f"file:{self.file.name}"

    @property
    def is_by_line(self) -> bool:
        """Whether events without an id are told by where they stand in the file."""
        return list(self.how.id_from) in ([], [LINE])

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file as UTF-8. Raises CommandFailed where it cannot be read."""
        if self.file == _STANDARD_INPUT:
            yield as_utf8(sys.stdin.buffer, self.how.encoding)
            return
        try:
            opened = self.file.open("rb")
        except OSError as error:
            raise CommandFailed(f"{self.file}: {error.strerror}") from None
        with opened:
            yield as_utf8(opened, self.how.encoding)

    @property
    def read_time(self) -> TimeReader:
        """What reads the file's times."""
        zone = None if self.how.time_zone is None else time_zone(self.how.time_zone)
        return time_reader(self.how.time_format, zone)

    def size(self) -> int | None:
        """The file's size in bytes, where it has one."""
        return self.file.stat().st_size if self.file.is_file() else None

    def identity(self) -> Identity:
        """What gives ids to events that have none."""
        return identity_from(self.how.id_from)

    def selection(self) -> Selection:
        """Which rows are meant."""
        return Selection(self.how.where)

    def rows(self, file: BinaryIO, lines: Lines, selection: Selection, identity: Identity) -> tuple[Rows, EventBuilder]:
        """The rows that are meant and what makes events of them. Raises CommandFailed where they do not fit."""
        how = self.how
        with _usage_errors():
            table: tuple[str, ...] | None = None
            match self._format(file):
                case FileFormat.CSV:
                    csv_table = CsvTable(lines, how.delimiter or ("\t" if self._suffix == ".tsv" else None))
                    table, rows = csv_table.columns, csv_table.rows()
                case FileFormat.JSON:
                    rows = document_rows(file, how.rows)
                case FileFormat.JSONL:
                    rows = jsonl_rows(lines)
            if table is not None:
                self._require(table)
            rows = selection.rows(rows)
            if how.unit_from is not None and how.count_from is not None:
                together = LongFormat(
                    how.unit_from, how.count_from, how.id_from, self._units(), frozenset(how.ignore_units)
                )
                rows = together.rows(rows)
                table = None if table is None else (*table, *sorted(together.units))
            builder = self._builder(table, identity)
            if how.skip_empty and not builder.counts:
                raise ValueError("--skip-empty: no column fills a count, so no row can be empty")
            return islice(rows, self.limit), builder

    @property
    def _suffix(self) -> str:
        return self.file.suffix.lower()

    def _format(self, file: BinaryIO) -> FileFormat:
        how = self.how
        if how.file_format is not None:
            return how.file_format
        if self._suffix in {".csv", ".tsv"}:
            return FileFormat.CSV
        # No line of JSON lines begins with a bracket: it would be no event.
        head: bytes = getattr(file, "peek", lambda _size: b"")(1024)
        is_array = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        return FileFormat.JSON if how.rows is not None or is_array else FileFormat.JSONL

    def _require(self, table: tuple[str, ...]) -> None:
        """Raise ValueError for a column that is asked for and not there."""
        how = self.how
        id_columns = () if self.is_by_line or list(how.id_from) == [ROW] else how.id_from
        asked: list[tuple[str, Iterable[str]]] = [
            ("--where", how.where),
            ("--id-from", id_columns),
            ("--unit-from", [how.unit_from] if how.unit_from else []),
            ("--count-from", [how.count_from] if how.count_from else []),
        ]
        for option, names in asked:
            for name in names:
                if not is_there(table, name) and not may_be_missing(name):
                    raise ValueError(f"{option} {name}: the file has no such column; it has {', '.join(table)}")

    def _units(self) -> frozenset[str]:
        """The units of a long table that some field is filled from."""
        mapped = {
            part.strip() for name, text in self.how.maps.items() if kind_of(name) is int for part in text.split("+")
        }
        return counts_of(self.how.event_type) | mapped

    def _builder(self, table: tuple[str, ...] | None, identity: Identity) -> EventBuilder:
        how = self.how
        is_mapped = table is not None or bool(how.maps or how.defaults)
        columns = columns_for(how.maps, table, event_type=how.event_type) if is_mapped else None
        return EventBuilder(
            Mapped(columns, how.sets, how.defaults, how.values, frozenset(how.maps)),
            event_type=how.event_type,
            source=self.source,
            read_time=self.read_time,
            shift=Shift(self.start),
            identity=identity,
        )


def options(**given: Any) -> dict[str, Any]:
    """What was given on the command line, as a profile says it. Raises CommandFailed."""
    said = {name: value for name, value in given.items() if value not in (None, [])}
    with _usage_errors():
        for name, option in (("maps", "--map"), ("sets", "--set"), ("defaults", "--default")):
            if name in said:
                said[name] = parse_pairs(option, said[name])
        if "where" in said:
            said["where"] = parse_where(said["where"])
        if "id_from" in said:
            said["id_from"] = [name.strip() for name in said["id_from"].split(",") if name.strip()]
    return said


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except RejectedError as error:
        raise CommandFailed(f"--set or --default {error}") from None
    except ValidationError as error:
        raise CommandFailed(in_words(error)) from None
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def _start(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ValueError(f"--start {text}: {error}") from None
