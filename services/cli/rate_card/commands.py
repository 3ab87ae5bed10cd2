"""`byok rate-card check FILE` and `byok rate-card publish FILE`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
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
    from services.cli.rate_card.document import Change
    from services.key_registry.rate_cards import CardDocument
    from services.proof.card_impact import Impact
    from services.runtime.settings import Settings

File = Annotated[Path, typer.Argument(metavar="FILE", help="The card: card, effective_from and body, as JSON.")]


def check(file: File, *, data_dir: DataDir = None, json: Json = False) -> None:
    """Look a rate card over, and show what it changes at its date.

    It is held against the card in force then: of those that are published,
    where BYOK_REGISTRY_DSN is set; else of those that ship with us.

    Exit status: 0 it can be published, or is already; 1 it cannot, and why;
    2 wrong options or settings; 3 the database does not answer.
    """
    with explained("rate-card check"):
        from services.cli.rate_card.document import changes, in_force_before, read_document

        settings = stack_settings(data_dir)
        document = read_document(file)
        cards, source = _cards(settings)
        published = _refuse_edited(document, cards) if source == "published" else False
        before = in_force_before(document, cards)
        changed = changes({} if before is None else before.body, document.body)
    if json:
        said = {
            "card": document.card,
            "effective_from": document.effective_from.isoformat(),
            "published": published,
            "against": None if before is None else before.card,
            "changes": [each._asdict() for each in changed],
        }
        typer.echo(json_format.dumps(said))
        return
    _show_changes(document, before, source, changed)
    typer.echo(f"{document.card} {'is published already.' if published else 'can be published.'}")


def publish(
    file: File, *, yes: Yes = False, dry_run: DryRun = False, data_dir: DataDir = None, json: Json = False
) -> None:
    """Put a rate card into the registry's log, after showing the money it moves.

    A card in whose time events are booked already has them re-rated: reversal
    and correction for each entry that comes out differently. What that would
    come to is computed from the ledger first, and asked about. A published
    card is never edited: the same again changes nothing, another content
    under its name is refused.

    Needs BYOK_REGISTRY_DSN and BYOK_LEDGER_DSN. Exit status: 0 it is
    published, or was already; 1 it cannot be, or was not confirmed; 2 wrong
    options or settings; 3 a database does not answer.
    """
    with explained("rate-card publish"):
        from services.cli.rate_card.document import changes, in_force_before, read_document

        settings = stack_settings(data_dir)
        settings.required("registry_dsn")
        document = read_document(file)
        cards, source = _cards(settings)
        already = _refuse_edited(document, cards)
        impact = None
        if not already:
            impact = _impact(settings, document)
            before = in_force_before(document, cards)
            if not json:
                changed = changes({} if before is None else before.body, document.body)
                _show_changes(document, before, source, changed)
                _show_impact(impact)
        published = False
        if not already and not dry_run:
            confirm(f"Publish {document.card} from {document.effective_from.isoformat()} on?", yes=yes)
            published = _publish(settings, document)
    if json:
        said = {"card": document.card, "published": published, "was_published": already, "dry_run": dry_run}
        typer.echo(json_format.dumps(said | {"impact": None if impact is None else vars(impact)}))
    elif already:
        typer.echo(f"{document.card} is published already, with this very content.")
    elif published:
        typer.echo(f"{document.card} is published; the metering takes it in within seconds.")


def _cards(settings: Settings) -> tuple[list[CardDocument], str]:
    """The cards in the order of publication, and which these are: ``published``, or ``packaged`` without a registry."""
    from services.key_registry.rate_cards import CardDocument, packaged_cards

    if settings.registry_dsn is None:
        return list(packaged_cards()), "packaged"
    from services.runtime.database import connect

    with connect(settings.required("registry_dsn"), "rate-card", autocommit=True) as connection:
        rows = connection.execute("SELECT card, effective_from, body FROM registry.rate_card ORDER BY seq").fetchall()
    return [CardDocument(*row) for row in rows], "published"


def _refuse_edited(document: CardDocument, cards: list[CardDocument]) -> bool:
    """Whether the very card is published. Raises CommandFailed (1) where its name is taken by another content."""
    for card in cards:
        if card.card == document.card:
            if card != document:
                raise CommandFailed(
                    f"{document.card} is published with another content; a published card is never edited:"
                    " give this one another name",
                    1,
                )
            return True
    return False


def _impact(settings: Settings, document: CardDocument) -> Impact:
    from services.proof.card_impact import card_impact
    from services.runtime.database import connect

    with connect(settings.required("ledger_dsn"), "rate-card", autocommit=True) as connection, progress() as bar:
        task = bar.add_task("Re-rating", total=None)
        return card_impact(connection, document.parse(), report=lambda done: bar.update(task, completed=done))


def _publish(settings: Settings, document: CardDocument) -> bool:
    from services.key_registry.database.sessions import open_engine, sessions_on
    from services.key_registry.handlers.cards import RateCardConflict, publish_rate_card

    engine = open_engine(settings.required("registry_dsn"))
    try:
        return publish_rate_card(sessions_on(engine), document)
    except RateCardConflict as error:
        # Somebody else was faster, with another content.
        raise CommandFailed(str(error), 1) from None
    finally:
        engine.dispose()


def _show_changes(document: CardDocument, before: CardDocument | None, source: str, changed: list[Change]) -> None:
    console = results()
    against = "no card before it" if before is None else f"{before.card} ({source}), which it follows"
    console.print(
        f"{document.card} from {document.effective_from.isoformat()}: {len(changed):,} changes against {against}"
    )
    rows = table("place", "before", "after")
    for each in changed:
        rows.add_row(each.place, *("–" if value is None else _text(value) for value in (each.before, each.after)))
    if changed:
        console.print(rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)


def _show_impact(impact: Impact) -> None:
    from services.domain.credits import format_credits

    console = results()
    console.print(f"{impact.entries:,} entries are booked for its time.")
    if not impact.entries:
        return
    console.print(
        f"  {impact.corrected:,} would be put right, of which {impact.moved:,} change their price"
        f" ({impact.organizations:,} organizations)"
    )
    if impact.unpriced:
        console.print(f"  {impact.unpriced:,} would stand as they are: the card does not list their model")
    console.print(f"  list    {_signed(format_credits(impact.list_mc))} credits")
    console.print(f"  charged {_signed(format_credits(impact.charged_mc))} credits")


def _signed(amount: str) -> str:
    return amount if amount.startswith("-") or amount == "0" else f"+{amount}"
