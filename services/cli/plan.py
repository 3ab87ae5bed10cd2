"""`byok plan get` and `byok plan set`: the plan of an organization, by the key registry's API."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.explain import Token
from services.cli.terminal import DataDir, Json, explained, results, table

Organization = Annotated[str, typer.Argument(metavar="ORG", help="The organization.")]


def get(org: Organization, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show an organization's plan and its history.

    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 the token is
    not good for it; 2 wrong options or settings; 3 it does not answer.
    """
    with explained("plan get"):
        answer = _ask(data_dir, token, "GET", org)
    _show(answer, json=json)


def set_(
    org: Organization,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="free, pro or enterprise.")],
    *,
    effective_from: Annotated[str | None, typer.Option(help="From when on, RFC 3339; absent: now.")] = None,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Put an organization on a plan, from now on or from a time on, in place of whatever stood after it.

    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 the registry
    refuses; 2 wrong options or settings; 3 it does not answer.
    """
    with explained("plan set"):
        said = {"plan": plan} | ({} if effective_from is None else {"effective_from": effective_from})
        answer = _ask(data_dir, token, "PUT", org, said)
    _show(answer, json=json)


def _ask(data_dir: Any, token: str | None, method: str, org: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    from services.cli.service_api import ask_registry

    return ask_registry(data_dir, token, method, f"/v1/organizations/{quote(org, safe='')}/plan", body)


def _show(answer: dict[str, Any], *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(answer))
        return
    rows = table("plan", "from", "to")
    for period in answer["plans"]:
        rows.add_row(period["plan"], period["from"], period["to"] or "–")
    console = results()
    console.print(f"{answer['org_id']} is on {answer['plan']}.")
    if answer["plans"]:
        console.print(rows)
