"""The services' HTTP APIs for commands: one bearer token, JSON, and errors that say what to do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from services.cli.settings import ApiSettings
from services.cli.terminal import stack_settings
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.http_client import http_client

_TIMEOUT_SECONDS = 30
_TOKEN_LIFETIME = timedelta(minutes=5)


class _Service(NamedTuple):
    """Who is asked."""

    name: str
    variable: str
    url: str


def ask_ledger(
    data_dir: Path | None, token: str | None, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ledger's answer. Raises CommandFailed: status 1 where it says no, AWAY where it does not answer."""
    settings = stack_settings(data_dir, ApiSettings)
    return _ask(_Service("ledger", "BYOK_LEDGER_URL", settings.ledger_url), settings, token, method, path, body)


def ask_registry(
    data_dir: Path | None, token: str | None, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The key registry's answer. Raises as ``ask_ledger`` does."""
    settings = stack_settings(data_dir, ApiSettings)
    service = _Service("key registry", "BYOK_REGISTRY_URL", settings.registry_url)
    return _ask(service, settings, token, method, path, body)


def _ask(
    service: _Service, settings: ApiSettings, token: str | None, method: str, path: str, body: dict[str, Any] | None
) -> dict[str, Any]:
    if not token and settings.token is not None:
        token = settings.token.get_secret_value()
    url = service.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise CommandFailed(f"{service.variable} must begin with http:// or https://")
    headers = {"Authorization": f"Bearer {token or _own_token(settings)}"}
    try:
        with http_client(url, seconds=_TIMEOUT_SECONDS, follow_redirects=True) as client:
            response = client.request(method, url + path, headers=headers, json=body)
        if not response.is_success:
            raise _refused(service, response)
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # Of what is wrong with the request only the kind: httpx repeats a header that it does not take.
        told = isinstance(error, (httpx.NetworkError, httpx.TimeoutException)) and str(error)
        reason = told or type(error).__name__
        said = f"the {service.name} does not answer at {url} ({reason}); check {service.variable}"
        raise CommandFailed(said, AWAY) from None


def _own_token(settings: ApiSettings) -> str:
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


def _refused(service: _Service, response: httpx.Response) -> CommandFailed:
    try:
        problem = response.json()
        said = f"{problem['code']}: {problem['detail']}"
        fields = "; ".join(f"{each['field']}: {each['detail']}" for each in problem.get("errors", []))
        said += f" ({fields})" if fields else ""
    except (ValueError, KeyError, TypeError):
        said = response.reason_phrase
    hint = "; give another token with --token" if response.status_code in {401, 403} else ""
    status = AWAY if response.is_server_error else 1
    return CommandFailed(f"the {service.name} says {response.status_code} {said}{hint}", status)
