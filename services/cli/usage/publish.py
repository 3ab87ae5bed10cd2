"""`byok usage publish FILE`: usage events from a file onto the topic, safe to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal import fail
from services.cli.usage.formats import FileFormat, TimeFormat
from services.runtime.command_failed import CommandFailed


def publish(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV; - for standard input (with --source).")],
    *,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Default: csv for FILE.csv and FILE.tsv, else jsonl.")
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Which column fills a field: time, id, source, type, or any field of data. Repeatable. A column that "
            "is named like a field needs no --map. With JSON lines: each line is a flat object.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field with the same value in every event, whatever the file says: org_id=acme, "
            "credential=platform, credential=byok:ID. Repeatable.",
        ),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="The type of events that name none, e.g. usage.token_usage.v1.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="The source of events that name none. Default: file:NAME.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file. Default: a comma; a tab for .tsv.")] = None,
    time_format: Annotated[
        TimeFormat, typer.Option(help="iso: RFC 3339, also with a space for the T; unix, unix-ms: since 1970.")
    ] = TimeFormat.ISO,
    assume_utc: Annotated[bool, typer.Option("--assume-utc", help="Take times without an offset as UTC.")] = False,
    start: Annotated[
        str | None,
        typer.Option(help="Shift all times so that the first row's is this one; the spacing is kept. RFC 3339."),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(help="Send at the pace of the events' times, this many times faster. Default: at once."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Events in a record at most; 1: no batches.")] = 100,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(envvar="BYOK_KAFKA_BOOTSTRAP", help="The broker, host:port.", show_default=False)
    ] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Write every refused row here: line, code, field, problem.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as one line of JSON.")] = False,
) -> None:
    """Send usage events from a file to the metering.

    Each row is checked first; the good ones are sent, the others are listed
    with line number and field (exit status 1). A broker that refuses us is
    exit status 3.

    An event without an identity of its own gets one from its place in the file
    (source file:NAME, id line-N). So the same command can be repeated: what is
    booked already is recognised as a duplicate, never charged twice. Identity
    counts per organization: the same file may be published for several. If its
    content or --start changes, give it another --source.

    A trace of LLM requests, at ten times its pace, for one user of acme:

    byok usage publish trace.csv --type usage.token_usage.v1 --assume-utc \\
      --map time=TIMESTAMP --map input_tokens=ContextTokens \\
      --map output_tokens=GeneratedTokens --set org_id=acme --set user_id=u1 \\
      --set agent_id=chat --set provider=anthropic \\
      --set model=claude-sonnet-4-6 --start 2026-11-01T00:00:00Z --pace 10
    """
    # Only now, so that `byok --help` answers at once.
    from services.cli.usage.job import Job
    from services.cli.usage.reporting import run_and_report
    from services.runtime.logs import configure_logs

    # As of other commands: output is for results.
    configure_logs("WARNING", "cli")
    try:
        job = Job.from_options(
            file=file,
            file_format=file_format,
            maps=maps or [],
            sets=sets or [],
            event_type=event_type,
            source=source,
            delimiter=delimiter,
            time_format=time_format,
            assume_utc=assume_utc,
            start=start,
            pace=pace,
            batch_events=batch,
            limit=limit,
            bootstrap=bootstrap,
            refused_file=refused,
            dry_run=dry_run,
        )
        status = run_and_report(job, json_summary=json)
    except CommandFailed as error:
        fail("usage publish", str(error), error.status)
    raise typer.Exit(status)
