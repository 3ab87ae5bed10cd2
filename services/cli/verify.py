"""`byok verify`: every entry derived again from its evidence, and the books held against the rows."""

from __future__ import annotations

import json as json_format
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from services.cli.terminal import DataDir, Json, explained, progress, results, stack_settings, table
from services.runtime.command_failed import CommandFailed

if TYPE_CHECKING:
    from services.cli.settings import ReplaySettings
    from services.proof.verify import Verification

_SHOWN = 50
_SAY_EVERY_SECONDS = 5.0


def verify(
    *,
    org: Annotated[
        str | None, typer.Option(help="Only the entries of this organization; conservation is left out.")
    ] = None,
    conservation: Annotated[
        bool, typer.Option("--conservation", help="Only offsets, counts and totals; the entries are left out.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Book the topic again, into an empty shadow ledger, and compare.")
    ] = False,
    textfile: Annotated[
        Path | None, typer.Option(help="Also write the result to this .prom file, for node_exporter.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Derive every entry of the ledger again, and hold its books against its rows.

    Needs BYOK_LEDGER_DSN. Reads one snapshot and writes nothing, so it may
    run beside a busy ledger.

    Entries: what each says must be what the pure core makes of its event and
    of the registry log up to its registry_seq; each revision must take back
    the one before it, exactly; and the last one must be what full knowledge
    of every change that is worked off comes to.

    Conservation: every offset is covered exactly once, every event that was
    recorded or refused has its row, and the metric totals are the rows' sums.
    Every entry has one place in the feed, or waits for it, and the roll-ups
    are the sums of the entries that have one.

    Replay: needs BYOK_KAFKA_BOOTSTRAP and BYOK_REPLAY_DSN too. All usage events
    that the topic still holds and the ledger has booked are booked once more,
    by metering's own code, with full knowledge, into a database that is dropped
    afterwards. Sums and final attribution of every identity must be the same.

    With --textfile DIR/NAME.prom Prometheus hears when it ended and what it
    found, through node_exporter's textfile collector; a run that broke off
    leaves the file as it was. Give each kind of run a file of its own.

    Exit status: 0 no difference; 1 differences, of which the first 50 are
    listed (all that were kept, with --json); 2 wrong options or settings, or
    a replay that has nothing to compare; 3 the database or the broker does
    not answer.
    """
    with explained("verify"):
        if org is not None and conservation:
            raise CommandFailed(
                "--conservation looks at partitions, which hold events of all organizations; drop --org"
            )
        if textfile is not None:
            _check_textfile(textfile, org)
        if replay and (org is not None or conservation):
            raise CommandFailed("--replay compares all of the ledger with the topic; drop --org and --conservation")
        if replay:
            from services.cli.settings import ReplaySettings

            _replay(stack_settings(data_dir, ReplaySettings), textfile, json=json)
        from services.books.settings import LedgerDatabase
        from services.proof.verify import verify as verify_ledger
        from services.runtime.database import connect

        dsn = stack_settings(data_dir, LedgerDatabase).ledger_dsn.get_secret_value()
        with connect(dsn, "verify", autocommit=True) as connection, _reporting() as report:
            found = verify_ledger(
                connection,
                org_id=org,
                entries=not conservation,
                conservation=org is None,
                report=report,
            )
        _tell(textfile, "conservation" if conservation else "full", found.differences)
    if json:
        typer.echo(json_format.dumps(_as_json(found)))
    else:
        _show(found, entries=not conservation, conservation=org is None)
    raise typer.Exit(1 if found.differences else 0)


def _check_textfile(path: Path, org: str | None) -> None:
    if org is not None:
        raise CommandFailed("--textfile tells of all organizations together; drop --org")
    if path.suffix != ".prom" or not path.parent.is_dir():
        raise CommandFailed("--textfile must end in .prom, in a directory that is there")


def _tell(textfile: Path | None, run: str, differences: int) -> None:
    if textfile is None:
        return
    from schemas import metrics
    from services.runtime.metrics import write_textfile

    told = {metrics.VERIFY_DIFFERENCES: differences, metrics.VERIFY_FINISHED: time.time()}
    try:
        write_textfile(textfile, {metric: [((run,), number)] for metric, number in told.items()})
    except OSError as error:
        raise CommandFailed(f"--textfile cannot be written: {error.strerror}; {differences:,} differences") from None


def _replay(settings: ReplaySettings, textfile: Path | None, *, json: bool) -> NoReturn:
    from services.cli import replay

    with _reporting() as report:
        found = replay.run(settings, report)
    _tell(textfile, "replay", found.comparison.differences)
    if json:
        typer.echo(json_format.dumps(replay.as_json(found)))
    else:
        replay.show(found)
    raise typer.Exit(1 if found.comparison.differences else 0)


@contextmanager
def _reporting() -> Iterator[Callable[[str, int, int | None], None]]:
    """Progress on standard error: a bar on a terminal, a line now and then elsewhere."""
    with progress() as bar:
        task = bar.add_task("Reading", total=None)
        said_at = time.monotonic()

        def report(what: str, done: int, total: int | None) -> None:
            nonlocal said_at
            bar.update(task, description=f"Checking {what}", completed=done, total=total)
            if bar.disable and time.monotonic() - said_at > _SAY_EVERY_SECONDS:
                said_at = time.monotonic()
                print(f"{what}: {done:,}{f' of {total:,}' if total else ''}", file=sys.stderr, flush=True)  # noqa: T201

        yield report


def _as_json(found: Verification) -> dict[str, object]:
    said = {name: value for name, value in vars(found).items() if name != "first"}
    return said | {"seconds": round(found.seconds, 3), "first": [each._asdict() for each in found.first]}


def _show(found: Verification, *, entries: bool, conservation: bool) -> None:
    console = results()
    if entries:
        rate = round(found.entries / found.seconds) if found.seconds else 0
        console.print(
            f"{found.entries:,} entries derived again ({found.revised_events:,} events with corrections)"
            f" in {found.seconds:.1f} s, {rate:,} entries/s"
        )
        console.print(
            f"registry log known up to change {found.registry_seq:,}, worked off up to change {found.rerated_seq:,}"
        )
    if found.unpriced:
        console.print(
            f"{found.unpriced:,} entries stand as they are: the rate card now in force at their time does not list"
            " their model, and no price is guessed"
        )
    if conservation:
        console.print(
            f"{found.partitions:,} partitions, {found.ranges:,} covered ranges, {found.totals:,} totals,"
            f" {found.roll_ups:,} roll-ups"
        )
    console.print(f"{found.differences:,} differences")
    if not found.differences:
        return
    rows = table("check", "where", "what")
    for each in found.first[:_SHOWN]:
        rows.add_row(*each)
    console.print(rows)
    if found.differences > _SHOWN:
        console.print(f"… and {found.differences - _SHOWN:,} more; --json lists up to {len(found.first):,}")
