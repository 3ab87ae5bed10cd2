"""`byok dead-letters`: refused events, which and why; once more; and on with metering after too many of them."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.terminal import (
    DataDir,
    DryRun,
    Json,
    Yes,
    confirm,
    explained,
    progress,
    results,
    stack_settings,
    table,
)
from services.runtime.command_failed import CommandFailed

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from psycopg import Connection

    from services.cli.settings import LetterSettings
    from services.metering.dead_letters.pause import Ignored, Pause
    from services.metering.dead_letters.resend import DeadLetterSummary, Wanted, WhyNot

_SHOWN_BYTES = 20_000
_WORST_SHOWN = 10

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="E.g. unpriced_model. Repeatable.")]
Org = Annotated[str | None, typer.Option(help="Of this organization, as far as it could be read.")]
Since = Annotated[str | None, typer.Option(help="Failed at or after this time; RFC 3339.")]
Until = Annotated[str | None, typer.Option(help="Failed before this time; RFC 3339.")]


def list_(
    *,
    reasons: Reasons = None,
    org: Org = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List refused events, the newest first; with --json one object a line.

    Needs BYOK_LEDGER_DSN. Exit status: 0; 2 wrong options or settings; 3 the
    database does not answer.
    """
    with explained("dead-letters list"):
        from services.metering.dead_letters.resend import newest

        wanted = _wanted(None, reasons, org, since, until)
        with _ledger(data_dir) as (_, connection):
            letters, count = newest(connection, wanted, limit)
    if json:
        for letter in letters:
            typer.echo(json_format.dumps(_as_json(letter)))
        return
    rows = table("id", "refused at", "reason", "organization", "event", "booked", "detail", right=("id",))
    for each in letters:
        event = each.event_id or f"{each.source_partition}@{each.source_offset}[{each.source_index}]"
        altered = "cut" if each.whole_bytes is not None else "masked" if each.masked else ""
        booked = "yes" if each.booked else altered
        detail = each.detail if len(each.detail) <= 100 else f"{each.detail[:99]}…"
        at = f"{each.failed_at:%Y-%m-%d %H:%M:%S}"
        rows.add_row(str(each.dead_letter_id), at, each.reason, each.org_id or "–", event, booked, detail)
    console = results()
    if letters:
        console.print(rows)
    console.print(f"{len(letters):,} of {count:,} dead letters")


def show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID", help="As `list` shows it.")],
    *,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show one dead letter with its bytes, and whether a replay would help.

    Needs BYOK_LEDGER_DSN. Exit status: 0; 1 there is none of that id; 2 wrong
    options or settings; 3 the database does not answer.
    """
    with explained("dead-letters show"):
        from services.metering.dead_letters.resend import kept, why_not

        with _ledger(data_dir) as (_, connection):
            letter = kept(connection, dead_letter_id)
        if letter is None:
            raise CommandFailed(f"there is no dead letter {dead_letter_id}; `byok dead-letters list` shows them", 1)
        why = why_not(letter.summary, force=False)
    payload = letter.payload.decode(errors="replace")
    key = None if letter.record_key is None else letter.record_key.decode(errors="replace")
    said = _as_json(letter.summary) | {"record_key": key, "replay": why is None, "why_not": why}
    if json:
        typer.echo(json_format.dumps(said | {"payload": payload}))
        return
    rows = table("", "")
    rows.show_header = False
    for name, value in said.items():
        rows.add_row(name, "–" if value is None else str(value))
    console = results()
    console.print(rows)
    console.print(payload[:_SHOWN_BYTES], soft_wrap=True)
    if len(payload) > _SHOWN_BYTES:
        console.print(f"… {len(payload) - _SHOWN_BYTES:,} more characters; --json shows all")


def replay(
    *,
    reasons: Reasons = None,
    ids: Annotated[list[int] | None, typer.Option("--id", help="One dead letter. Repeatable.")] = None,
    org: Org = None,
    since: Since = None,
    until: Until = None,
    force: Annotated[
        bool, typer.Option("--force", help="Send also what will be refused again: no JSON, too large, a conflict.")
    ] = False,
    priced: Annotated[
        bool, typer.Option("--priced", help="Only what lacked a price and has one by now: each of them is booked.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send refused events once more, with the bytes and the key they had.

    They keep their identity, so this can be repeated safely: what is booked
    is a duplicate, never charged twice. What still cannot be booked becomes
    a new dead letter. Of a valid event in which something was masked the known
    fields are sent; what was no valid event and was masked or cut is gone.

    After a rate card or another name of a model was published, --priced sends
    what it prices, and of the rest nothing: so it makes no new dead letters,
    and says beforehand how many events will be booked.

    Needs BYOK_LEDGER_DSN and BYOK_KAFKA_BOOTSTRAP. Exit status: 0 all that
    can be sent is sent; 1 not confirmed, or an --id was left out; 2 wrong
    options or settings; 3 database or broker do not answer, or refuse
    (repeat it).
    """
    with explained("dead-letters replay"):
        from services.metering.dead_letters.resend import plan, what_helps, what_is_priced

        if priced and force:
            raise CommandFailed("--priced sends only what will be booked, --force also what will be refused: give one")
        wanted = _wanted(ids, reasons, org, since, until)
        with _ledger(data_dir) as (settings, connection):

            def why() -> WhyNot:
                return what_is_priced(connection) if priced else what_helps(force=force)

            planned = plan(connection, wanted, why())
            total = planned.to_send.total()
            if not json:
                _show_plan(planned)
            sent = 0
            if total and not dry_run:
                booked = ", where all of them will be booked" if priced else ""
                confirm(f"Send {total:,} events to the topic once more{booked}?", yes=yes)
                sent = _send(connection, settings, wanted, total, why())
    if json:
        said = {"to_send": dict(planned.to_send), "left": dict(planned.left), "sent": sent, "dry_run": dry_run}
        typer.echo(json_format.dumps(said))
    elif total and not dry_run:
        typer.echo(f"Sent {sent:,} events. `byok dead-letters list` shows whether they are booked.")
    raise typer.Exit(1 if ids and total < len(set(ids)) else 0)


def status(*, data_dir: DataDir = None, json: Json = False) -> None:
    """Show whether metering is paused, who does not count, and who has the most dead letters of the last hour.

    Needs BYOK_LEDGER_DSN. Exit status: 0; 2 wrong options or settings; 3 the
    database does not answer.
    """
    with explained("dead-letters status"):
        from services.metering.dead_letters.pause import ignored, in_force, worst

        with _ledger(data_dir) as (_, connection):
            pause, left_out, refusals = in_force(connection), ignored(connection), worst(connection, _WORST_SHOWN)
    if json:
        last_hour = [each._asdict() for each in refusals]
        said = {"pause": _pause_as_json(pause), "ignored": _ignored_as_json(left_out), "last_hour": last_hour}
        typer.echo(json_format.dumps(said))
        return
    if pause is None:
        typer.echo("Metering is not paused.")
    else:
        _show_pause(pause)
    for each in left_out:
        typer.echo(f"Does not count towards a pause since {each.ignored_at:%Y-%m-%d %H:%M:%S %Z}: {each.org_id}")
    rows = table("dead letters of the last hour", "organization", "reason", right=("dead letters of the last hour",))
    for refused in refusals:
        rows.add_row(f"{refused.dead_letters:,}", refused.org_id or "–", refused.reason)
    results().print(rows if refusals else "No dead letters within the last hour.")


def resume(
    *,
    ignore_org: Annotated[
        list[str] | None,
        typer.Option(help="Count no event of this organization towards a pause, until told otherwise. Repeatable."),
    ] = None,
    count_org: Annotated[
        list[str] | None, typer.Option(help="Count the events of this organization again. Repeatable.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Let metering go on after it paused for too many dead letters.

    Every worker books again within seconds and counts anew; it pauses again
    when the share is passed again. Without a pause only the options are
    carried out: whose events count is kept in the database, and shown by
    `status`. What does not count is booked all the same, or refused.

    Needs BYOK_LEDGER_DSN. Exit status: 0; 1 not confirmed; 2 wrong options or
    settings; 3 the database does not answer.
    """
    with explained("dead-letters resume"):
        from services.metering.dead_letters.pause import count_again, end, ignore, ignored, in_force

        for org_id in ignore_org or []:
            _require_id("--ignore-org", org_id)
        with _ledger(data_dir) as (_, connection):
            pause = in_force(connection)
            if pause is not None and not json:
                _show_pause(pause)
            resumed = False
            if not dry_run and (pause is not None or ignore_org or count_org):
                confirm(_question(pause, ignore_org or [], count_org or []), yes=yes)
                # Before the workers go on, or what led to the pause would lead to the next one.
                for org_id in ignore_org or []:
                    ignore(connection, org_id)
                for org_id in count_org or []:
                    count_again(connection, org_id)
                resumed = pause is not None and end(connection) is not None
            left_out = ignored(connection)
    if json:
        typer.echo(json_format.dumps({"pause": _pause_as_json(pause), "resumed": resumed, "dry_run": dry_run}))
        return
    if pause is None:
        typer.echo("Metering is not paused.")
    elif resumed:
        typer.echo("Metering goes on.")
    if left_out:
        typer.echo(f"Do not count towards a pause: {', '.join(each.org_id for each in left_out)}")


@contextmanager
def _ledger(data_dir: Path | None) -> Iterator[tuple[LetterSettings, Connection[Any]]]:
    from services.cli.settings import LetterSettings
    from services.runtime.database import connect

    settings = stack_settings(data_dir, LetterSettings)
    with connect(settings.ledger_dsn.get_secret_value(), "dead-letters", autocommit=True) as connection:
        yield settings, connection


def _question(pause: Pause | None, ignore_org: list[str], count_org: list[str]) -> str:
    parts = [] if pause is None else ["Let metering go on?"]
    parts += [f"Count no event of {org_id} towards a pause?" for org_id in ignore_org]
    parts += [f"Count the events of {org_id} again?" for org_id in count_org]
    return " ".join(parts)


def _require_id(option: str, text: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from schemas.fields import OrgId

    try:
        TypeAdapter(OrgId).validate_python(text)
    except ValidationError:
        raise CommandFailed(
            f"{option}: must be an organization's id, 1 to 128 bytes without control characters"
        ) from None


def _show_pause(pause: Pause) -> None:
    share = f"{pause.dead_letters:,} of {pause.events:,} events became dead letters within {pause.window_seconds:,} s"
    typer.echo(f"Metering is paused since {pause.paused_at:%Y-%m-%d %H:%M:%S %Z}: {share}. Most of them:")
    rows = table("events", "reason", "source", right=("events",))
    for cause in pause.causes:
        rows.add_row(f"{cause['dead_letters']:,}", cause["reason"], cause["event_source"] or "–")
    results().print(rows)


def _pause_as_json(pause: Pause | None) -> dict[str, Any] | None:
    return None if pause is None else pause._asdict() | {"paused_at": pause.paused_at.isoformat()}


def _ignored_as_json(left_out: list[Ignored]) -> list[dict[str, Any]]:
    return [each._asdict() | {"ignored_at": each.ignored_at.isoformat()} for each in left_out]


def _send(connection: Connection[Any], settings: LetterSettings, wanted: Wanted, total: int, why: WhyNot) -> int:
    from schemas.topics import USAGE_EVENTS
    from services.metering.dead_letters.resend import replay as send
    from services.runtime.broker import kafka_producer

    timeout = settings.kafka_timeout_seconds
    producer = kafka_producer(settings.kafka, "byok-dead-letters-replay", USAGE_EVENTS.name, timeout_seconds=timeout)
    try:
        with progress() as bar:
            task = bar.add_task("Sending", total=total)
            return send(
                connection,
                producer,
                wanted,
                why,
                timeout_seconds=timeout,
                on_sent=lambda sent: bar.update(task, completed=sent),
            )
    finally:
        producer.close(timeout=1)


def _show_plan(planned: Any) -> None:
    console = results()
    rows = table("events", "reason", "", right=("events",))
    for reason, count in sorted(planned.to_send.items()):
        rows.add_row(f"{count:,}", reason, "to be sent")
    for text, count in sorted(planned.left.items()):
        reason, _, why = text.partition(": ")
        rows.add_row(f"{count:,}", reason, f"left: {why}")
    console.print(rows if rows.row_count else "There is no such dead letter.")


def _wanted(
    ids: list[int] | None, reasons: list[str] | None, org: str | None, since: str | None, until: str | None
) -> Wanted:
    from schemas.dead_letters import Reason
    from services.metering.dead_letters.resend import Wanted

    known = [reason.value for reason in Reason]
    for reason in reasons or []:
        if reason not in known:
            raise CommandFailed(f"--reason {reason}: must be one of {', '.join(known)}")
    return Wanted(ids or None, reasons or None, org, _time("--since", since), _time("--until", until))


def _time(option: str, text: str | None) -> datetime | None:
    from schemas.fields import parse_time

    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise CommandFailed(f"{option} {text}: {error}; write 2026-11-01T00:00:00Z") from None


def _as_json(letter: DeadLetterSummary) -> dict[str, Any]:
    return letter._asdict() | {"failed_at": letter.failed_at.isoformat()}
