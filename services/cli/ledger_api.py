"""The ledger's HTTP API for commands: one bearer token, JSON, and errors that say what to do."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.cli.terminal import stack_settings
from services.runtime.command_failed import AWAY, CommandFailed

_TIMEOUT_SECONDS = 30
_TOKEN_LIFETIME = timedelta(minutes=5)


def ask_ledger(
    data_dir: Path | None, token: str | None, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ledger's answer. Raises CommandFailed: status 1 where it says no, AWAY where it does not answer."""
    # Before the settings are taken from a data directory: this one is not a setting of any service.
    token = token or os.environ.get("BYOK_TOKEN")
    settings = stack_settings(data_dir)
    url = settings.ledger_url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise CommandFailed("BYOK_LEDGER_URL must begin with http:// or https://")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        url + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token or _own_token(settings)}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CommandFailed(f"the ledger does not answer at {url} ({reason}); check BYOK_LEDGER_URL", AWAY) from None


def _own_token(settings: Any) -> str:
    """A short-lived token signed with the development key."""
    from services.cli.token import signing_key_file
    from services.local.dev_tokens import ALL_SCOPES, sign_token, token_claims

    try:
        key_file = signing_key_file(os.environ, Path(".byok"))
    except ValueError as error:
        raise CommandFailed(f"{error}; or give a token with --token or BYOK_TOKEN") from None
    claims = token_claims(
        "operator",
        ALL_SCOPES,
        issued_at=datetime.now(UTC),
        lifetime=_TOKEN_LIFETIME,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    return sign_token(key_file, claims)


def _refused(error: urllib.error.HTTPError) -> CommandFailed:
    try:
        problem = json.loads(error.read())
        said = f"{problem['code']}: {problem['detail']}"
        fields = "; ".join(f"{each['field']}: {each['detail']}" for each in problem.get("errors", []))
        said += f" ({fields})" if fields else ""
    except (OSError, ValueError, KeyError, TypeError):
        said = error.reason
    hint = "; give another token with --token" if error.code in {401, 403} else ""
    return CommandFailed(f"the ledger says {error.code} {said}{hint}", AWAY if error.code >= 500 else 1)
