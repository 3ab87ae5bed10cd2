"""`byok models list` and `byok models alias`: what models cost, and their other names."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

import typer

from services.cli.explain import Token
from services.cli.terminal import DataDir, Json, explained, results, table
from services.runtime.command_failed import CommandFailed

_SHOWN_NAMES = 2


def list_(
    search: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only models of which a name has this in it.", show_default=False),
    ] = None,
    *,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    at: Annotated[str | None, typer.Option("--time", help="As of when, RFC 3339; absent: now.")] = None,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List the models that have a price, with tier, prices in USD and other names.

    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 there is none
    of that name, or the registry says no; 2 wrong options or settings; 3 it
    does not answer.
    """
    with explained("models list"):
        from urllib.parse import urlencode

        from services.cli.service_api import ask_registry

        query = f"?{urlencode({'at': at})}" if at else ""
        answer = ask_registry(data_dir, token, "GET", f"/v1/models{query}")
    found = [model for model in answer["models"] if _is_wanted(model, search, provider)]
    if json:
        typer.echo(json_format.dumps(answer | {"models": found}))
    else:
        _show(answer, found, whole=search is not None)
    raise typer.Exit(0 if found else 1)


def alias(
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="E.g. openai.")],
    names: Annotated[
        list[str], typer.Argument(metavar="NAME=MODEL...", help="E.g. openai/gpt-4o=gpt-4o; the name to the letter.")
    ],
    *,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add other names that runners report for models of a provider.

    They count from now on, for events of any time, and are never changed or
    taken away. What was refused before for such a name is sent again by
    `byok dead-letters replay --priced`.

    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 the registry
    refuses; 2 wrong options or settings; 3 it does not answer.
    """
    with explained("models alias"):
        from services.cli.service_api import ask_registry

        wanted = {"provider": provider, "aliases": dict(map(_pair, names))}
        answer = ask_registry(data_dir, token, "POST", "/v1/models/aliases", wanted)
    if json:
        typer.echo(json_format.dumps(answer))
    else:
        known = len(wanted["aliases"]) - len(answer["added"])
        typer.echo(f"Added {len(answer['added']):,} names" + (f"; {known:,} were known." if known else "."))


def _pair(text: str) -> tuple[str, str]:
    # A name may hold a sign of equality, the models of cards do not.
    name, equals, model = text.rpartition("=")
    if not (name and equals and model):
        raise CommandFailed(f"{text}: write NAME=MODEL, such as openai/gpt-4o=gpt-4o")
    return name, model


def _is_wanted(model: dict[str, Any], search: str | None, provider: str | None) -> bool:
    if provider is not None and model["provider"] != provider:
        return False
    return search is None or any(search in name for name in (model["model"], *model["aliases"]))


def _show(answer: dict[str, Any], found: list[dict[str, Any]], *, whole: bool) -> None:
    rows = table("provider", "model", "tier", "USD", "other names")
    for model in found:
        rows.add_row(model["provider"], model["model"], model["tier"], _prices(model), _names(model, whole=whole))
    console = results()
    if found:
        console.print(rows)
    count = f"{len(found):,} of {len(answer['models']):,} models"
    console.print(f"{count} by rate card {answer['rate_card']}; a million tokens, a thousand searches")


def _prices(model: dict[str, Any]) -> str:
    plain = ", ".join(f"{unit} {usd}" for unit, usd in model["usd"].items())
    other = [name for name in ("bands", "windows", "variants", "uplifts") if name in model]
    return plain + (f" (also {', '.join(other)}: --json)" if other else "")


def _names(model: dict[str, Any], *, whole: bool) -> str:
    names = model["aliases"]
    shown = names if whole else names[:_SHOWN_NAMES]
    return ", ".join(shown) + (f", and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
