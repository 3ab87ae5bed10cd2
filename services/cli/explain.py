"""`byok explain` and `byok quote`: why an entry costs what it costs, and what a call would cost."""

from __future__ import annotations

import json as json_format
import uuid
from typing import Annotated, Any
from urllib.parse import quote as quoted

import typer

from services.cli.terminal import DataDir, Json, explained, results
from services.runtime.command_failed import CommandFailed

Token = Annotated[
    str | None,
    typer.Option(help="A bearer token; also BYOK_TOKEN. Default: signed with the development key.", show_default=False),
]


def explain(
    entry_id: Annotated[str, typer.Argument(metavar="ENTRY_ID", help="Of any entry, as ledger.entries shows it.")],
    *,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Explain one entry: the keys that came into question, plan, card, arithmetic.

    Asks the ledger at BYOK_LEDGER_URL. Everything is derived again and held
    against what was booked. Exit status: 0; 1 there is no such entry, the
    token may not see it, or the entry is NOT what its evidence says; 2 wrong
    options or settings; 3 the ledger does not answer.
    """
    with explained("explain"):
        from services.cli.receipt import receipt_lines, show_lines
        from services.cli.service_api import ask_ledger

        try:
            number = uuid.UUID(entry_id)
        except ValueError:
            raise CommandFailed(f"{entry_id}: is no entry id; the column entry_id of ledger.entries has them") from None
        answer = ask_ledger(data_dir, token, "GET", f"/v1/entries/{quoted(str(number))}/receipt")
    if json:
        typer.echo(json_format.dumps(answer))
    else:
        show_lines(results(), receipt_lines(answer))
    raise typer.Exit(0 if answer["evidence"].get("agrees") else 1)


def quote(
    *,
    user: Annotated[str, typer.Option(help="Who would call.")],
    provider: Annotated[str, typer.Option(help="E.g. anthropic.")],
    model: Annotated[str, typer.Option(help="E.g. claude-sonnet-4-6.")],
    org: Annotated[str | None, typer.Option(help="Needed where the token is good for every organization.")] = None,
    team: Annotated[str | None, typer.Option(help="In which team; absent: the personal space.")] = None,
    at: Annotated[str | None, typer.Option("--time", help="As of when, RFC 3339; absent: now.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Node calls.")] = 1,
    input_tokens: Annotated[int, typer.Option(min=0, help="An agent's, cached ones included.")] = 0,
    cached_input_tokens: Annotated[int, typer.Option(min=0, help="Of these from the cache.")] = 0,
    output_tokens: Annotated[int, typer.Option(min=0, help="An agent's.")] = 0,
    usage: Annotated[
        list[str] | None, typer.Option(metavar="UNIT=COUNT", help="In place of tokens, of one request. Repeatable.")
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--condition", metavar="NAME=VALUE", help="As served, e.g. processing=batch. Repeatable."),
    ] = None,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Say which key would apply to a call of a model, at what price, and why.

    Asks the ledger at BYOK_LEDGER_URL, with what it knows of the registry now.
    Nothing is booked. Exit status: 0; 1 the ledger refuses, e.g. because no
    card has a price for the model; 2 wrong options or settings; 3 the ledger
    does not answer.
    """
    asked: dict[str, Any] = {
        "org_id": org,
        "user_id": user,
        "team_id": team,
        "provider": provider,
        "model": model,
        "time": at,
        "calls": calls,
        "input_tokens": input_tokens,
        "cached_input_tokens": cached_input_tokens,
        "output_tokens": output_tokens,
    }
    with explained("quote"):
        asked |= {"usage": _counts(usage or []), "conditions": dict(_pairs("--condition", conditions or []))}
        from services.cli.receipt import quote_lines, show_lines
        from services.cli.service_api import ask_ledger

        body = {name: value for name, value in asked.items() if value is not None}
        answer = ask_ledger(data_dir, token, "POST", "/v1/quote", body)
    if json:
        typer.echo(json_format.dumps(answer))
    else:
        show_lines(results(), quote_lines(answer))


def _counts(written: list[str]) -> dict[str, int]:
    counts = {}
    for unit, text in _pairs("--usage", written):
        if not (text.isascii() and text.isdigit()):
            raise CommandFailed(f"--usage {unit}={text}: the count must be a whole number")
        counts[unit] = int(text)
    return counts


def _pairs(option: str, written: list[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in written]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise CommandFailed(f"{option} {name}{equals}{value}: write it as NAME=VALUE")
    return [(name, value) for name, _, value in pairs]
