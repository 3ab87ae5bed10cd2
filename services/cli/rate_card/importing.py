"""`byok rate-card import --from SOURCE FILE`: a card proposed from a public map of prices, for a person to publish."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.rate_card.price_maps.sources import Source, read_map
from services.cli.terminal import DataDir, explained, stack_settings
from services.runtime.command_failed import CommandFailed

if TYPE_CHECKING:
    from services.key_registry.rate_cards import CardDocument

MapFile = Annotated[Path, typer.Argument(metavar="FILE", help="The map, as JSON.")]
From = Annotated[Source, typer.Option("--from", help="Whose map it is.")]
Provider = Annotated[list[str], typer.Option("--provider", metavar="NAME", help="Only these; else all of the card's.")]
Add = Annotated[list[str], typer.Option("--add", metavar="MODEL", help="A new one: MODEL or PROVIDER/MODEL.")]
AddAll = Annotated[bool, typer.Option("--add-all", help="Every model of these providers that the card lacks.")]
Tier = Annotated[str | None, typer.Option("--tier", help="Of new models; else guessed from their price, and said.")]
Name = Annotated[str | None, typer.Option("--card", metavar="NAME", help="Default: the day from which it is in force.")]
Since = Annotated[
    str | None, typer.Option("--effective-from", metavar="TIME", help="Default: the coming midnight UTC.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="CARD", help="Default: standard output.")]
Every = Annotated[bool, typer.Option("--all", help="Every place that differs, stays or is left out.")]


def import_(
    file: MapFile,
    *,
    source: From,
    provider: Provider = [],  # noqa: B006 - typer takes it as it is
    add: Add = [],  # noqa: B006
    add_all: AddAll = False,
    tier: Tier = None,
    card: Name = None,
    effective_from: Since = None,
    output: Output = None,
    every: Every = False,
    data_dir: DataDir = None,
) -> None:
    """Propose a card of schema 2: the one in force then, with the prices that a public map has.

    FILE is LiteLLM's model_prices_and_context_window.json, or genai-prices'
    data.json. Models that the card lists are brought up to date; none is added
    unless it is asked for. What the map does not state stays as it is. What it
    says and no card can, such as a price with more than six decimals, is left
    out and said. The difference is told on standard error. Nothing is
    published: look the card over, then `byok rate-card publish` it.

    Exit status: 0 the card is written; 1 it could not be published; 2 wrong
    options or settings, or no such map; 3 the database does not answer.
    """
    with explained("rate-card import"):
        from services.cli.rate_card import survey
        from services.cli.rate_card.document import read_text
        from services.cli.rate_card.proposal import Wanted, propose
        from services.cli.rate_card.published import read_aliases, read_cards
        from services.cli.settings import CardSettings

        settings = stack_settings(data_dir, CardSettings)
        since = _since(effective_from)
        entries = read_map(source, file, since)
        cards, _ = read_cards(settings.registry_dsn)
        base = _base(cards, since)
        aliases = read_aliases(settings.registry_dsn)
        proposal = propose(base.body, entries, aliases, Wanted(provider, add, add_all, tier))
        document = {"card": card or f"{since:%Y-%m-%d}", "effective_from": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
        text = written(document | {"body": proposal.body})
        read_text(text, document["card"])
        _require_new(document["card"], cards)
        _write(text, output)
        lines = survey.everything(proposal, source) if every else survey.screen(proposal, source)
        typer.echo("\n".join(lines), err=True)
        typer.echo(f"Nothing is published. {_next(output, base)}", err=True)


def _since(effective_from: str | None) -> datetime:
    if effective_from is None:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + timedelta(days=1)
    try:
        since = datetime.fromisoformat(effective_from)
    except ValueError:
        raise CommandFailed(f"--effective-from {effective_from}: must be a time such as 2027-01-01T00:00:00Z") from None
    return since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)


def _base(cards: list[CardDocument], since: datetime) -> CardDocument:
    from services.domain.rate_card import in_force, in_order

    base = in_force(in_order(cards), since)
    if base is None:
        raise CommandFailed(f"no card is in force at {since.isoformat()}, whose other prices the new one would have")
    return base


def _require_new(name: str, cards: list[CardDocument]) -> None:
    if any(known.card == name for known in cards):
        raise CommandFailed(f"a card {name} is published, and never edited: --card says another name")


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{output}: {error.strerror}") from None


def _next(output: Path | None, base: CardDocument) -> str:
    return f"`byok rate-card check {output or 'CARD'}` looks over what was made of {base.card}."


def written(document: dict[str, Any]) -> str:
    """A card as ours are written: a line for each model."""
    return f"{_object(document, '', 4)}\n"


def _object(value: Any, indent: str, depth: int) -> str:
    """Objects down to ``depth`` a name to a line; below that on one."""
    if not isinstance(value, dict) or depth == 0 or not value:
        return json.dumps(value, ensure_ascii=False)
    if depth < 3 and not any(isinstance(each, dict) and each for each in value.values()):
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent} "
    lines = [
        f"{inner}{json.dumps(name, ensure_ascii=False)}: {_object(each, inner, depth - 1)}"
        for name, each in value.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
