"""`byok token`: a bearer token for development, signed with the stack's own key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datetime import timedelta

_ROLES = ("admin", "member")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAYS_MAX = 365


def token(
    *,
    sub: Annotated[str, typer.Option(help="Who calls: the user's id.")] = "developer",
    org: Annotated[str, typer.Option(help="The organization it is good for; * is every one.")] = "*",
    role: Annotated[str | None, typer.Option(help="In the organization: admin or member.")] = None,
    teams: Annotated[
        list[str] | None, typer.Option("--team", metavar="TEAM=ROLE", help="A team and the role in it. Repeatable.")
    ] = None,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="E.g. usage:write; all: every scope. Repeatable.")
    ] = None,
    expires: Annotated[str, typer.Option(help="How long it is good for: 30m, 1h, 7d.")] = "1h",
    data_dir: Annotated[Path, typer.Option(help="Of `byok up`, whose signing key is used.")] = Path(".byok"),
) -> None:
    """Print a token for development, and nothing else.

    It is signed with the key in BYOK_JWT_SIGNING_KEY_FILE, else with the one
    that `byok up` keeps in its data directory. In production tokens come from
    your identity provider, and this command refuses.
    """
    from datetime import UTC, datetime

    from services.local.dev_tokens import sign_token, token_claims

    try:
        key_file = signing_key_file(os.environ, data_dir)
        claims = token_claims(
            sub,
            _scope(scopes or []),
            issued_at=datetime.now(UTC),
            lifetime=lifetime(expires),
            org_id=org,
            issuer=os.environ.get("BYOK_JWT_ISSUER", "byok"),
            audience=os.environ.get("BYOK_JWT_AUDIENCE", "byok"),
        )
        signed = sign_token(key_file, claims | membership(role, teams or []))
    except (OSError, ValueError, TypeError) as error:
        typer.echo(f"byok token: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(signed)


def signing_key_file(environment: Mapping[str, str], data_dir: Path) -> Path:
    """The key to sign with. Raises ValueError in production, and where there is none."""
    if environment.get("BYOK_ENV", "").lower() == "production":
        raise ValueError("BYOK_ENV is production, where tokens come from your identity provider")
    named = environment.get("BYOK_JWT_SIGNING_KEY_FILE")
    file = Path(named) if named else data_dir / "secrets" / "jwt-signing-key.pem"
    if not file.is_file():
        raise ValueError(f"there is no signing key at {file}; `byok up` makes one, or name it with --data-dir")
    return file


def lifetime(text: str) -> timedelta:
    """The time that ``30m``, ``1h`` or ``7d`` says. Raises ValueError for anything else, and beyond a year."""
    from datetime import timedelta

    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"--expires {text}: write a number and s, m, h or d, such as 1h")
    span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if span > timedelta(days=_DAYS_MAX):
        raise ValueError(f"--expires {text}: at most {_DAYS_MAX}d")
    return span


def membership(role: str | None, teams: list[str]) -> dict[str, Any]:
    """The claims ``org_role`` and ``teams``, as far as given. Raises ValueError where a role is none."""
    claims: dict[str, Any] = {}
    if role is not None:
        claims["org_role"] = _checked_role("--role", role)
    if teams:
        # A team's id may itself contain an equals sign.
        pairs = (team.rpartition("=") for team in teams)
        claims["teams"] = {team: _checked_role(f"--team {team}={role}", role) for team, _, role in pairs}
    if "" in claims.get("teams", {}):
        raise ValueError("--team: write TEAM=admin or TEAM=member")
    return claims


def _checked_role(option: str, role: str) -> str:
    if role not in _ROLES:
        raise ValueError(f"{option}: the role must be admin or member")
    return role


def _scope(scopes: list[str]) -> str:
    from services.local.dev_tokens import ALL_SCOPES

    known = ALL_SCOPES.split()
    asked = {part for scope in scopes for part in (known if scope == "all" else scope.split())}
    if unknown := sorted(asked.difference(known)):
        raise ValueError(f"--scope {unknown[0]}: must be one of {', '.join(known)}, or all")
    return " ".join(scope for scope in known if scope in asked)
