"""`byok usage publish FILE`: usage events from a file onto the topic, safe to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.terminal import DataDir, explained, stack_settings
from services.cli.usage.formats import FileFormat

if TYPE_CHECKING:
    from services.cli.settings import PublishSettings

_ROWS, _FIELDS, _TIMES, _RUN = "How rows are read", "What they mean", "Times", "The run"


def publish(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV or JSON; - for standard input (with --source).")],
    *,
    profile: Annotated[
        str | None,
        typer.Option(
            help="How the export of a vendor is read; `byok usage profiles` lists them. Or a FILE.json of your own. "
            "Other options win over it.",
        ),
    ] = None,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format",
            help="Default: csv for FILE.csv and FILE.tsv; json where the file begins with [; else jsonl.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(help="Of a CSV file. Default: what the header has: , ; a tab or |.", rich_help_panel=_ROWS),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="E.g. cp1252. Default: what the first bytes say, else UTF-8.", rich_help_panel=_ROWS),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where a JSON document has its array of rows: data, or daily.modelBreakdowns.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only rows in which a column says this. Repeatable; several of one column: any of them.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    skip_empty: Annotated[
        bool,
        typer.Option("--skip-empty", help="Pass over rows whose counts are all empty or 0.", rich_help_panel=_ROWS),
    ] = False,
    unit_from: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Long format: the column that names the unit. Rows in which the columns of --id-from say the same are "
            "one event, with a column for each unit.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    count_from: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Long format: the column that has the count.", rich_help_panel=_ROWS),
    ] = None,
    ignore_unit: Annotated[
        list[str] | None, typer.Option(help="Long format: a unit to pass over. Repeatable.", rich_help_panel=_ROWS)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many rows.", rich_help_panel=_ROWS)
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Which column fills a field: time, id, source, type, any field of data, a unit of usage. a+b+c adds "
            "columns up; a.b is a key in an object. Repeatable. A column that is named like a field needs no --map. "
            "With JSON: each row is a flat object.",
            rich_help_panel=_FIELDS,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field with the same value in every event, whatever the file says: org_id=acme, "
            "credential=platform, credential=byok:ID. Repeatable.",
            rich_help_panel=_FIELDS,
        ),
    ] = None,
    defaults: Annotated[
        list[str] | None,
        typer.Option(
            "--default",
            metavar="FIELD=VALUE",
            help="What an empty cell of a field means: calls=1, input=0. Repeatable.",
            rich_help_panel=_FIELDS,
        ),
    ] = None,
    event_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="The type of events that name none of ours, e.g. usage.token_usage.v2.",
            rich_help_panel=_FIELDS,
        ),
    ] = None,
    id_from: Annotated[
        str | None,
        typer.Option(
            metavar="COL,…",
            help="By what a row is known again: columns, row (all that it says), or line (where it stands). Default: "
            "its own id, else line.",
            rich_help_panel=_FIELDS,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="The source of events that name none. Default: file:NAME.", rich_help_panel=_FIELDS),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            help="iso (RFC 3339, also with a space for the T, without seconds, a date alone), unix, unix-ms, or a "
            "pattern such as '%d.%m.%Y %H:%M'. Default: iso.",
            rich_help_panel=_TIMES,
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose clock times without an offset are: Europe/Berlin.", rich_help_panel=_TIMES
        ),
    ] = None,
    assume_utc: Annotated[
        bool, typer.Option("--assume-utc", help="The same as --time-zone UTC.", rich_help_panel=_TIMES)
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            help="Shift all times so that the first row's is this one, or 0 where they count from 0; the spacing is "
            "kept. RFC 3339.",
            rich_help_panel=_TIMES,
        ),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(
            help="Send at the pace of the events' times, this many times faster. Default: at once.",
            rich_help_panel=_TIMES,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=1000, help="Events in a record at most; 1: no batches.", rich_help_panel=_RUN)
    ] = 100,
    bootstrap: Annotated[
        str | None,
        typer.Option(help="The broker, host:port. Default: BYOK_KAFKA_BOOTSTRAP.", rich_help_panel=_RUN),
    ] = None,
    data_dir: DataDir = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            help="Give up after so many seconds in which nothing more was booked; 0: do not wait for metering.",
            rich_help_panel=_RUN,
        ),
    ] = 60,
    refused: Annotated[
        Path | None,
        typer.Option(help="Write every refused row here: line, code, field, problem.", rich_help_panel=_RUN),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, prices too; send nothing.", rich_help_panel=_RUN),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as one line of JSON.")] = False,
) -> None:
    """Send usage events from a file to the metering, and say what became of them.

    Each row is checked first; the good ones are sent, the others are listed
    with line number and field. With BYOK_LEDGER_DSN the command then waits
    until they are booked: recorded, duplicates, refused.

    Exit status: 0; 1 rows were refused, here or by metering, or the broker
    failed; 2 wrong options or settings; 3 the broker refuses us, the database
    does not answer, or metering does not book.

    An event without an identity of its own gets one from its place in the file
    (source file:NAME, id line-N). So the same command can be repeated: what is
    booked already is recognised as a duplicate, never charged twice. Identity
    counts per organization: the same file may be published for several. Where
    lines have moved, nothing is sent: exports that grow at the top are told by
    --id-from.

    A trace of LLM requests, at ten times its pace, for one user of acme:

    byok usage publish trace.csv --type usage.token_usage.v1 --assume-utc \\
      --map time=TIMESTAMP --map input_tokens=ContextTokens \\
      --map output_tokens=GeneratedTokens --set org_id=acme --set user_id=u1 \\
      --set agent_id=chat --set provider=anthropic \\
      --set model=claude-sonnet-4-6 --start 2026-11-01T00:00:00Z --pace 10
    """
    # Only now, so that `byok --help` answers at once.
    with explained("usage publish"):
        from services.cli.usage.job import Job, options
        from services.cli.usage.reporting import run_and_report

        job = Job.from_options(
            file=file,
            profile_name=profile,
            options=options(
                file_format=file_format,
                delimiter=delimiter,
                encoding=encoding,
                rows=rows,
                where=where,
                skip_empty=skip_empty or None,
                unit_from=unit_from,
                count_from=count_from,
                ignore_units=ignore_unit,
                maps=maps,
                sets=sets,
                defaults=defaults,
                event_type=event_type,
                id_from=id_from,
                source=source,
                time_format=time_format,
                time_zone=time_zone or ("UTC" if assume_utc else None),
            ),
            start=start,
            pace=pace,
            batch_events=batch,
            limit=limit,
            refused_file=refused,
            wait_seconds=wait,
            dry_run=dry_run,
        )
        status = run_and_report(job, _settings(data_dir, bootstrap), json_summary=json)
    raise typer.Exit(status)


def _settings(data_dir: Path | None, bootstrap: str | None) -> PublishSettings:
    from services.cli.settings import PublishSettings
    from services.runtime.logs import configure_logs

    if bootstrap is None or data_dir is not None:
        found = stack_settings(data_dir, PublishSettings)
    else:
        # A broker that is named is not that of a stack which happens to be here.
        configure_logs("WARNING", "cli")
        found = PublishSettings.load()
    changes: dict[str, Any] = {} if bootstrap is None else {"kafka_bootstrap": bootstrap}
    return found.model_copy(update=changes)
