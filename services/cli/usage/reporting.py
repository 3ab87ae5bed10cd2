"""Runs a publication and says what became of it: progress and refusals on standard error, the summary on output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import typer
from rich.console import Console
from rich.table import Table

from schemas.dead_letters import Reason
from schemas.usage_events import EVENT_MODELS
from services.cli.settings import PublishSettings
from services.cli.usage.job import Job
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.run import Ledger, Run
from services.runtime.command_failed import AWAY, CommandFailed

_INTERRUPTED = 130
_TYPES = f"--type gives a type to rows without one: {', '.join(EVENT_MODELS)}."
_HINTS = {
    (Reason.INVALID_EVENT, "type"): _TYPES,
    (Reason.UNSUPPORTED_TYPE, "type"): _TYPES,
    (Reason.INVALID_EVENT, "time"): (
        "--time-zone NAME says whose clock times without an offset are (--assume-utc: UTC); --time-format unix, "
        "unix-ms or a pattern such as '%d.%m.%Y %H:%M', how they are written."
    ),
    (Reason.TIME_IN_FUTURE, "time"): "Run the same command again when the time of these events has come.",
}
_REPEAT = "Run the same command again: events that arrived already are recognised by their identity, not charged twice."
_BLIND = (
    "What becomes of the events cannot be seen from here, for BYOK_LEDGER_DSN is not set: `byok dead-letters list` "
    "shows what metering refuses. Whether lines have moved is known only of what was published from this machine."
)


@dataclass
class Summary:
    """What became of a file. ``sent`` counts events that the broker has acknowledged."""

    file: str
    rows: int
    sent: int
    records: int
    refused: int
    """Rows that were not sent, and events that metering has refused."""
    refused_by_reason: dict[str, int]
    in_future: int
    recorded: int | None
    """None where nobody looked."""
    duplicates: int | None
    unknown: int
    """Events that were sent, and of which is not known what became of them."""
    left_out: int
    """Rows that ``--where`` left out."""
    skipped: int
    """Rows that ``--skip-empty`` left out."""
    repeated: int
    """Rows that say the same as an earlier one; each counts."""
    seconds: float
    events_per_second: int
    dry_run: bool
    error: str | None

    @classmethod
    def of(cls, run: Run, rejected: RejectedRows, job: Job) -> Summary:
        """All of it in numbers."""
        sender, outcome, counts = run.sender, run.outcome, rejected.counts
        return cls(
            file=str(job.file),
            rows=run.publication.rows,
            sent=sender.events,
            records=sender.records,
            refused=counts.total(),
            refused_by_reason={str(reason): count for reason, count in counts.most_common()},
            in_future=counts[Reason.TIME_IN_FUTURE],
            recorded=None if outcome is None else outcome.recorded,
            duplicates=None if outcome is None else outcome.duplicates,
            unknown=sender.events if outcome is None else outcome.unknown,
            left_out=run.selection.left_out,
            skipped=run.publication.skipped,
            repeated=run.identity.repeated,
            seconds=round(run.seconds, 3),
            events_per_second=round(sender.events / run.seconds) if run.seconds > 0 else 0,
            dry_run=job.dry_run,
            error=run.error,
        )


def run_and_report(job: Job, settings: PublishSettings, *, json_summary: bool) -> int:
    """Publish; return the exit status: 0, 1 where a row was refused or the broker failed, 3 where metering does not
    book what was sent, 130 when interrupted.

    Raises CommandFailed where the job cannot be begun, psycopg.Error and KafkaError.
    """
    console = _console()
    with _rejected_rows(job) as rejected, ExitStack() as stack:
        run = Run(job, settings, rejected, Ledger.of(settings, stack), console)
    summary = Summary.of(run, rejected, job)
    _show_rejected(rejected, console)
    for note in _notes(summary, run, job):
        console.print(note, style="yellow", soft_wrap=True)
    if run.error is not None:
        console.print(run.error if run.is_moved else f"{run.error}\n{_REPEAT}", style="red", soft_wrap=True)
    typer.echo(json.dumps(asdict(summary)) if json_summary else _in_words(summary, run))
    return _status(summary, run)


def _console() -> Console:
    """Standard error; wide enough for whole sentences where it is a file."""
    console = Console(stderr=True, highlight=False, markup=False)
    return console if console.is_terminal else Console(stderr=True, highlight=False, markup=False, width=160)


def _status(summary: Summary, run: Run) -> int:
    if run.is_interrupted:
        return _INTERRUPTED
    if summary.refused:
        return 1
    if run.out_of_sight or (run.outcome is not None and summary.unknown):
        return AWAY
    return 0 if run.error is None else 1


def _notes(summary: Summary, run: Run, job: Job) -> Iterator[str]:
    if run.is_blind:
        yield _BLIND
    if run.out_of_sight and run.error is None:
        yield f"What became of the events cannot be seen now ({run.out_of_sight}). {_REPEAT}"
    if run.outcome is not None and summary.unknown:
        yield (
            f"Metering has not booked {summary.unknown:,} of the events, and nothing more for {job.wait_seconds:g} s. "
            f"Does it run, on this ledger? `byok dead-letters status` says whether it is paused. {_REPEAT}"
        )
    if summary.rows and run.builder.unseen:
        yield f"No row has anything under {', '.join(sorted(run.builder.unseen))}; --map names it. Is it misspelt?"
    if summary.repeated:
        yield (
            f"{summary.repeated:,} rows say the same as an earlier one. Each counts; where a column tells requests "
            "apart, --id-from COL,… takes those that were logged twice once."
        )


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


def _show_rejected(rejected: RejectedRows, console: Console) -> None:
    if not rejected.shown:
        return
    table = Table("line", "reason", "field", "problem", title="Refused rows", title_justify="left")
    for row in rejected.shown:
        table.add_row(str(row.line), row.code, row.field, row.problem)
    console.print(table)
    if more := rejected.counts.total() - len(rejected.shown):
        console.print(f"… and {more:,} more; --refused FILE lists all of them.")
    # Digits that are lost are not a matter of how they are read.
    found = {(row.code, row.field) for row in rejected.shown if "lost digits" not in row.problem}
    for hint in dict.fromkeys(hint for at, hint in _HINTS.items() if at in found):
        console.print(hint, style="yellow", soft_wrap=True)


def _in_words(summary: Summary, run: Run) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.refused_by_reason.items())
    refused = f"{summary.refused:,} rows refused" + (f" ({reasons})" if reasons else "")
    left = f" {summary.left_out:,} rows were left out by --where." if summary.left_out else ""
    left += f" {summary.skipped:,} rows count nothing and were skipped." if summary.skipped else ""
    if summary.dry_run:
        known = f" Prices are those of {run.prices.known}." if run.prices is not None else ""
        example = f"\nThe first event would be:\n{run.first}" if run.first else ""
        good = summary.rows - summary.refused - summary.skipped
        return f"Checked {summary.rows:,} rows: {good:,} good, {refused}.{left}{known}{example}"
    sent = (
        f"Sent {summary.sent:,} events in {summary.records:,} records, {refused}; "
        f"{summary.seconds:.1f} s, {summary.events_per_second:,} events/s.{left}"
    )
    return sent if run.outcome is None else f"{sent}\n{_became(summary, len(run.outcome.refused))}"


def _became(summary: Summary, refused: int) -> str:
    unknown = f", {summary.unknown:,} not yet booked" if summary.unknown else ""
    return (
        f"Of the events sent {summary.recorded:,} were recorded, {summary.duplicates:,} were duplicates of what was "
        f"recorded before, {refused:,} were refused by metering{unknown}."
    )
