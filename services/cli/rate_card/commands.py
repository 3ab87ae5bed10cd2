"""`byok rate-card check FILE` and `byok rate-card publish FILE`."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
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
    from pydantic import SecretStr

    from services.cli.rate_card.differences import Change
    from services.cli.rate_card.proposal import Proposal
    from services.key_registry.rate_cards import CardDocument
    from services.proof.card_impact import Impact

File = Annotated[Path, typer.Argument(metavar="FILE", help="The card: card, effective_from and body, as JSON.")]
All = Annotated[bool, typer.Option("--all", help="Every place that differs, not only the largest changes.")]

Against = Annotated[
    str | None,
    typer.Option("--against", metavar="SOURCE:FILE", help="A map of prices too: litellm:FILE or genai-prices:FILE."),
]

_LINES_MAX = 34
"""Of differences: with what stands around them, a screen."""


def check(
    file: File, *, against: Against = None, every: All = False, data_dir: DataDir = None, json: Json = False
) -> None:
    """Look a rate card over, and show what it changes at its date.

    It is held against the card in force then: of those that are published,
    where BYOK_REGISTRY_DSN is set; else of those that ship with us. What is
    wrong is told of every place at once, places that no card has included.
    With --against it is also held against a public map of prices: LiteLLM's, or
    that of genai-prices. What the map does not state is no difference.

    Exit status: 0 it can be published, or is already; 1 it cannot, and why, or
    the map has other prices; 2 wrong options or settings, or no such map; 3 the
    database does not answer.
    """
    with explained("rate-card check"):
        from services.cli.rate_card.differences import changes
        from services.cli.rate_card.document import in_force_before, read_document
        from services.cli.rate_card.published import read_cards
        from services.cli.settings import CardSettings

        settings = stack_settings(data_dir, CardSettings)
        document = read_document(file)
        cards, source = read_cards(settings.registry_dsn)
        published = source == "published" and _is_published(document, cards)
        before = in_force_before(document, cards)
        found = None if against is None else _against(against, document, settings.registry_dsn)
    if json:
        changed = changes({} if before is None else before.body, document.body)
        said = {
            "card": document.card,
            "effective_from": document.effective_from.isoformat(),
            "published": published,
            "against": None if before is None else before.card,
            "changes": _plain(changed),
        }
        typer.echo(json_format.dumps(said | ({} if found is None else {"map": _plain(found.changes)})))
    else:
        _show_changes(document, before, source, every=every)
        if found is not None and against is not None:
            _show_map(found, against, every=every)
        typer.echo(f"{document.card} {'is published already.' if published else 'can be published.'}")
    if found is not None and found.changes:
        raise typer.Exit(1)


def _against(against: str, document: CardDocument, registry: SecretStr | None) -> Proposal:
    from services.cli.rate_card.price_maps.sources import read_map, source_and_file
    from services.cli.rate_card.proposal import Wanted, propose
    from services.cli.rate_card.published import read_aliases

    entries = read_map(*source_and_file(against), document.effective_from)
    return propose(document.body, entries, read_aliases(registry), Wanted())


def _plain(changes: list[Change]) -> list[dict[str, Any]]:
    return [{"place": each.place, "before": each.before, "after": each.after} for each in changes]


def _show_map(found: Proposal, against: str, *, every: bool) -> None:
    from services.cli.rate_card import survey

    source = against.partition(":")[0]
    typer.echo("\n".join(survey.everything(found, source) if every else survey.screen(found, source)))


def publish(
    file: File,
    *,
    every: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    json: Json = False,
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
        from services.cli.rate_card.document import in_force_before, read_document
        from services.cli.rate_card.published import read_cards
        from services.cli.settings import PublishingSettings

        settings = stack_settings(data_dir, PublishingSettings)
        document = read_document(file)
        cards, source = read_cards(settings.registry_dsn)
        already = _is_published(document, cards)
        impact = None
        if not already:
            impact = _impact(settings.ledger_dsn, document)
            if not json:
                _show_changes(document, in_force_before(document, cards), source, every=every)
                _show_impact(impact)
        published = False
        if not already and not dry_run:
            confirm(f"Publish {document.card} from {document.effective_from.isoformat()} on?", yes=yes)
            published = _publish(settings.registry_dsn, settings.ledger_dsn, document)
    if json:
        said = {"card": document.card, "published": published, "was_published": already, "dry_run": dry_run}
        typer.echo(json_format.dumps(said | {"impact": None if impact is None else vars(impact)}))
    elif already:
        typer.echo(f"{document.card} is published already, with this very content.")
    elif published:
        typer.echo(f"{document.card} is published; the metering takes it in within seconds.")


def _is_published(document: CardDocument, cards: list[CardDocument]) -> bool:
    from services.key_registry.handlers.cards import is_published

    with _edited_never():
        return is_published(document, cards)


def _publish(registry: SecretStr, ledger: SecretStr, document: CardDocument) -> bool:
    from services.cli.rate_card.published import sessions
    from services.key_registry.handlers.cards import publish_rate_card

    _require_whole(registry, ledger)
    # Somebody else may have been faster, with another content.
    with sessions(registry) as opened, _edited_never():
        return publish_rate_card(opened, document)


def _require_whole(registry: SecretStr, ledger: SecretStr) -> None:
    """A card takes a number of the log, which must not be taken already: no registry may have looked yet."""
    from services.key_registry.log.comparison import compare_with_ledger
    from services.key_registry.rules.completeness import LogBehindError
    from services.runtime.database import connect

    with connect(registry.get_secret_value(), "rate-card", autocommit=True) as connection:
        try:
            compare_with_ledger(connection, ledger.get_secret_value())
        except LogBehindError as error:
            raise CommandFailed(str(error), 1) from None


@contextmanager
def _edited_never() -> Iterator[None]:
    from services.key_registry.handlers.cards import RateCardConflict

    try:
        yield
    except RateCardConflict as error:
        raise CommandFailed(str(error), 1) from None


def _impact(ledger: SecretStr, document: CardDocument) -> Impact:
    from services.proof.card_impact import card_impact
    from services.runtime.database import connect

    with connect(ledger.get_secret_value(), "rate-card", autocommit=True) as connection, progress() as bar:
        task = bar.add_task("Re-rating", total=None)
        return card_impact(connection, document.parse(), report=lambda done: bar.update(task, completed=done))


def _show_changes(document: CardDocument, before: CardDocument | None, source: str, *, every: bool) -> None:
    from services.cli.rate_card.differences import changes, overview

    against = "no card before it" if before is None else f"{before.card} ({source}), which it follows"
    body_before = {} if before is None else before.body
    changed = changes(body_before, document.body)
    typer.echo(
        f"{document.card} from {document.effective_from.isoformat()}: {len(changed):,} changes against {against}"
    )
    if every:
        _show_every(changed)
    elif changed:
        typer.echo("\n".join(overview(body_before, document.body, _LINES_MAX)))
        typer.echo("With --all every place is listed.")


def _show_every(changed: list[Change]) -> None:
    from services.cli.rate_card.differences import text_of

    rows = table("place", "before", "after")
    for each in changed:
        rows.add_row(each.place, *("–" if value is None else text_of(value) for value in (each.before, each.after)))
    if changed:
        results().print(rows)


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
