"""Runs a publication and says what became of it: progress and refusals on standard error, the summary on output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.dead_letters import Reason
from schemas.usage_events import EVENT_MODELS
from services.cli.usage.job import Job
from services.cli.usage.pacing import Pacer
from services.cli.usage.publication import DryRun, Publication
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.sender import BatchSender, SendFailed
from services.cli.usage.sources import Lines, Rows
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.kafka_access import KafkaAccess, KafkaSettings
from services.runtime.settings import SettingsError

_INTERRUPTED = 130
_ROWS_PER_UPDATE = 500
_TYPES = f"--type gives a type to rows without one: {', '.join(EVENT_MODELS)}."
_HINTS = {
    (Reason.INVALID_EVENT, "type"): _TYPES,
    (Reason.UNSUPPORTED_TYPE, "type"): _TYPES,
    (Reason.INVALID_EVENT, "time"): "--assume-utc takes times without an offset as UTC.",
    (Reason.TIME_IN_FUTURE, "time"): "Run the same command again when the time of these events has come.",
}
_REPEAT = "Run the same command again: events that arrived already are recognised by their identity, not charged twice."


@dataclass
class Summary:
    """What became of a file. ``sent`` counts events that the broker has acknowledged."""

    file: str
    rows: int
    sent: int
    records: int
    refused: int
    in_future: int
    seconds: float
    events_per_second: int
    dry_run: bool
    error: str | None = None


def run_and_report(job: Job, *, json_summary: bool) -> int:
    """Publish; return the exit status: 0, 1 where a row was refused or the broker failed, 130 when interrupted.

    Raises CommandFailed where the job cannot be begun.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    with _rejected_rows(job) as rejected:
        summary, first = _run(job, rejected, console)
        status = _status(summary)
    _show_rejected(rejected, console)
    if summary.error is not None:
        console.print(f"{summary.error}\n{_REPEAT}", style="red")
    typer.echo(json.dumps(asdict(summary)) if json_summary else _in_words(summary, first))
    return status


def _run(job: Job, rejected: RejectedRows, console: Console) -> tuple[Summary, str]:
    with job.open() as file:
        lines = Lines(file)
        rows, builder = job.rows(lines)
        publication = Publication(builder, rejected)
        sender: BatchSender | DryRun = DryRun()
        error = None
        began = time.monotonic()
        try:
            with _sender(job) as sender, _progress(job, lines, console) as show:
                pacer = None if job.pace is None else Pacer(job.pace)
                publication.run(_watched(rows, show), sender, pacer)
        except SendFailed as failure:
            error = f"The broker {job.broker} did not take everything: {failure}"
        except KeyboardInterrupt:
            error = f"Interrupted after line {lines.number}."
    seconds = time.monotonic() - began
    summary = Summary(
        file=str(job.file),
        rows=publication.rows,
        sent=sender.events,
        records=sender.records,
        refused=rejected.counts.total(),
        in_future=rejected.counts[Reason.TIME_IN_FUTURE],
        seconds=round(seconds, 3),
        events_per_second=round(sender.events / seconds) if seconds > 0 else 0,
        dry_run=job.dry_run,
        error=error,
    )
    return summary, publication.first.decode()


class _LateProducer:
    """Connects when there is something to send: nobody waits for a broker to hear what is wrong with a file."""

    def __init__(self, access: KafkaAccess, timeout_seconds: float) -> None:
        self._kafka = access
        self._timeout_seconds = timeout_seconds
        self._producer: Any = None

    def send(self, topic: str, *, key: bytes, value: bytes) -> Any:
        """Queue one record. Raises SendFailed when the broker cannot be reached, CommandFailed when it refuses us."""
        if self._producer is None:
            self._producer = self._connect()
        return self._producer.send(topic, key=key, value=value)

    def close(self) -> None:
        # After a good run nothing is left to wait for; after a bad one there is no use in waiting.
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _connect(self) -> Any:
        # Only now: a dry run needs no Kafka client.
        from kafka.errors import KafkaError

        from schemas.topics import USAGE_EVENTS
        from services.runtime.broker import kafka_producer
        from services.runtime.broker_refusals import BrokerRefused

        seconds = self._timeout_seconds
        try:
            return kafka_producer(self._kafka, "byok-usage-publish", USAGE_EVENTS.name, timeout_seconds=seconds)
        except BrokerRefused as refused:
            raise CommandFailed(str(refused), AWAY) from None
        except KafkaError as error:
            raise SendFailed(f"it cannot be reached ({type(error).__name__})") from error


@contextmanager
def _sender(job: Job) -> Iterator[BatchSender | DryRun]:
    if job.dry_run:
        yield DryRun()
        return
    settings = _settings()
    timeout = settings.kafka_timeout_seconds
    producer = _LateProducer(replace(settings.kafka, bootstrap=job.broker), timeout)
    try:
        yield BatchSender(producer, job.batch_events, timeout_seconds=timeout)
    finally:
        producer.close()


def _settings() -> KafkaSettings:
    try:
        return KafkaSettings.load()
    except SettingsError as error:
        raise CommandFailed(str(error)) from None


@contextmanager
def _progress(job: Job, lines: Lines, console: Console) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # Nothing is drawn where standard error is no terminal.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.file.name, total=job.size())
        yield lambda: progress.update(task, completed=lines.bytes_read)


def _watched(rows: Rows, show: Callable[[], None]) -> Rows:
    for count, row in enumerate(rows):
        if count % _ROWS_PER_UPDATE == 0:
            show()
        yield row


@contextmanager
def _rejected_rows(job: Job) -> Iterator[RejectedRows]:
    if job.refused_file is None:
        yield RejectedRows()
        return
    try:
        file = job.refused_file.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"--refused {job.refused_file}: {error.strerror}") from None
    with file:
        yield RejectedRows(file)


def _status(summary: Summary) -> int:
    if summary.error is not None and summary.error.startswith("Interrupted"):
        return _INTERRUPTED
    return 1 if summary.refused or summary.error is not None else 0


def _show_rejected(rejected: RejectedRows, console: Console) -> None:
    if not rejected.shown:
        return
    table = Table("line", "field", "problem", title="Refused rows", title_justify="left")
    for row in rejected.shown:
        table.add_row(str(row.line), row.field, row.problem)
    console.print(table)
    if more := rejected.counts.total() - len(rejected.shown):
        console.print(f"… and {more:,} more; --refused FILE lists all of them.")
    found = {(row.code, row.field) for row in rejected.shown}
    for hint in dict.fromkeys(hint for at, hint in _HINTS.items() if at in found):
        console.print(hint, style="yellow")


def _in_words(summary: Summary, first: str) -> str:
    refused = f"{summary.refused:,} rows refused"
    if summary.dry_run:
        example = f"\nThe first event would be:\n{first}" if first else ""
        return f"Checked {summary.rows:,} rows: {summary.rows - summary.refused:,} good, {refused}.{example}"
    return (
        f"Sent {summary.sent:,} events in {summary.records:,} records, {refused}; "
        f"{summary.seconds:.1f} s, {summary.events_per_second:,} events/s."
    )
