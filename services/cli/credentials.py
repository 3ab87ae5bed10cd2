"""`byok credentials …`: keys added, listed, rotated, checked, switched off and ended, by the key registry's API.

A key comes from standard input, or is asked for without being shown: an argument would stand in the shell's history and
in the list of processes.
"""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from services.cli.explain import Token
from services.cli.terminal import DataDir, Json, Yes, confirm, explained, results, table
from services.runtime.command_failed import CommandFailed

CredentialId = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
Org = Annotated[str | None, typer.Option(help="Needed where the token is good for every organization.")]
_PAGE = 200

if TYPE_CHECKING:
    from pydantic import SecretStr


def add(
    *,
    scope: Annotated[str, typer.Option(help="organization, team or personal.")],
    scope_id: Annotated[str, typer.Option("--id", help="Of the organization, the team or the person.")],
    provider: Annotated[str, typer.Option(help="E.g. anthropic.")],
    org: Org = None,
    label: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    effective_from: Annotated[str | None, typer.Option(help="From when on, RFC 3339; absent: now.")] = None,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add a key, which is read from standard input; it applies from now on.

    E.g. `byok credentials add --scope personal --id u1 --provider openai < key`.
    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 the registry
    refuses, e.g. credential_exists; 2 wrong options or settings; 3 it does not
    answer.
    """
    with explained("credentials add"):
        body = {
            "scope": {"type": scope, "id": scope_id},
            "provider": provider,
            "org_id": org,
            "label": label,
            "effective_from": effective_from,
        }
        said = {name: value for name, value in body.items() if value is not None}
        answer = _ask(data_dir, token, "POST", "", said | {"api_key": _key().get_secret_value()})
    _show_one(answer, json=json)


def list_(
    *,
    org: Annotated[str | None, typer.Option(help="Absent: all that the token is good for.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    status: Annotated[str | None, typer.Option(help="active, disabled, shadowed, lost or deleted.")] = None,
    token: Token = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List keys, of each its hint and how it stands; with --json one object a line.

    Asks the key registry at BYOK_REGISTRY_URL. Exit status: 0; 1 the registry
    says no; 2 wrong options or settings; 3 it does not answer.
    """
    wanted = {"org_id": org, "provider": provider, "status": status}
    with explained("credentials list"):
        found = _all(data_dir, token, {name: value for name, value in wanted.items() if value is not None})
    if json:
        for each in found:
            typer.echo(json_format.dumps(each))
        return
    rows = table("id", "organization", "scope", "provider", "key", "status", "label")
    for each in found:
        scope = f"{each['scope']['type']} {each['scope']['id']}"
        status_ = " by ".join(filter(None, (each["status"], each["shadowed_by"])))
        rows.add_row(
            *(each["credential_id"], each["org_id"], scope, each["provider"]),
            *(each["hint"] or "–", status_, each["label"] or "–"),
        )
    results().print(rows if found else "There is no such key.")


def show(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show one key: whose it is, when it was active, what its provider said of it. Never the key itself.

    Asks the key registry. Exit status: 0; 1 there is none of that id, or the
    token may not see it; 2 wrong options or settings; 3 it does not answer.
    """
    with explained("credentials show"):
        answer = _ask(data_dir, token, "GET", f"/{quote(credential_id, safe='')}")
    _show_one(answer, json=json)


def rotate(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Put another key in the place of this one; it is read from standard input.

    Its provider is asked first, where it can be. `undo` brings the key before
    back for a while. Asks the key registry. Exit status: 0; 1 the registry
    refuses, e.g. key_invalid; 2 wrong options or settings; 3 it does not answer.
    """
    with explained("credentials rotate"):
        place = f"/{quote(credential_id, safe='')}/rotate"
        answer = _ask(data_dir, token, "POST", place, {"api_key": _key().get_secret_value()})
    _show_one(answer, json=json)


def undo(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Bring the key before the last rotation back. Exit status as of `show`; 1 also after `undo_until`."""
    with explained("credentials undo"):
        answer = _ask(data_dir, token, "POST", f"/{quote(credential_id, safe='')}/rotate/undo")
    _show_one(answer, json=json)


def verify(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Ask its provider about a key.

    Exit status: 0 the provider takes it, or cannot be asked; 1 it refuses the
    key, or the registry says no; 2 wrong options or settings; 3 the registry
    does not answer.
    """
    with explained("credentials verify"):
        answer = _ask(data_dir, token, "POST", f"/{quote(credential_id, safe='')}/verify")
    typer.echo(json_format.dumps(answer) if json else f"{answer['result']}: {answer['reason']}")
    raise typer.Exit(1 if answer["result"] == "invalid" else 0)


def enable(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Switch a key on again. Exit status as of `show`."""
    with explained("credentials enable"):
        answer = _ask(data_dir, token, "PATCH", f"/{quote(credential_id, safe='')}", {"enabled": True})
    _show_one(answer, json=json)


def disable(credential_id: CredentialId, *, token: Token = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Switch a key off until `enable`: calls from now on go without it. Exit status as of `show`."""
    with explained("credentials disable"):
        answer = _ask(data_dir, token, "PATCH", f"/{quote(credential_id, safe='')}", {"enabled": False})
    _show_one(answer, json=json)


def delete(credential_id: CredentialId, *, yes: Yes = False, token: Token = None, data_dir: DataDir = None) -> None:
    """End a key now, and destroy it. Exit status as of `show`; 1 also where it is not confirmed."""
    with explained("credentials delete"):
        confirm(f"End {credential_id} now, and destroy the key?", yes=yes)
        _ask(data_dir, token, "DELETE", f"/{quote(credential_id, safe='')}")
    typer.echo(f"{credential_id} is ended, and its key destroyed.")


def _key() -> SecretStr:
    """The key from standard input, without the white space that pasting brings along."""
    from pydantic import SecretStr

    text = typer.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    key = SecretStr(text.strip())
    if not key.get_secret_value():
        raise CommandFailed("give the key on standard input, on one line: byok credentials … < file")
    return key


def _ask(data_dir: Any, token: str | None, method: str, place: str, body: dict[str, Any] | None = None) -> Any:
    from services.cli.service_api import ask_registry

    return ask_registry(data_dir, token, method, f"/v1/credentials{place}", body)


def _all(data_dir: Any, token: str | None, wanted: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = urlencode(wanted | {"limit": _PAGE} | ({} if cursor is None else {"cursor": cursor}))
        page = _ask(data_dir, token, "GET", f"?{query}")
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def _show_one(credential: dict[str, Any], *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(credential))
        return
    rows = table("", "")
    rows.show_header = False
    for name, value in credential.items():
        rows.add_row(name, _words(value))
    results().print(rows)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values() if part is not None)
    if isinstance(value, list):
        return "; ".join(f"{span['from']} to {span['to'] or 'now on'}" for span in value)
    return "–" if value is None else str(value)
