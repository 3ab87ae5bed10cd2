"""Plans and keys over the key registry's own HTTP API, backdated to when they are meant to count from."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from services.cli.demo.company import KEYS, ORGANIZATIONS, Arrived, KeyArrival, instant
from services.runtime.http_client import http_client

_TIMEOUT_SECONDS = 20
# The usual shape of each provider's keys; what follows the prefix is random and opens nothing.
_PREFIXES = {
    "openai": "sk-proj-",
    "anthropic": "sk-ant-api03-",
    "google": "AIza",
    "xai": "xai-",
    "deepseek": "sk-",
    "fireworks": "fw_",
}


class ApiError(Exception):
    """A service refused a request or did not answer; the message has the problem's code, never what was sent."""


class Api:
    """JSON over HTTP with one bearer token."""

    def __init__(self, url: str, token: str) -> None:
        # A connection of its own for each call: the demo pauses for longer than a server keeps one.
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        self._client = http_client(url, seconds=_TIMEOUT_SECONDS, proxied=False, base_url=url, headers=headers)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON object. Raises ApiError."""
        try:
            response = self._client.request(method, path, json=body)
            answer: dict[str, Any] = response.json() if response.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}") from error
        if response.is_error:
            raise ApiError(f"{method} {path}: {response.status_code} {answer.get('code')}: {answer.get('detail')}")
        return answer


def set_plans(registry: Api, start: datetime) -> None:
    """Every organization's plans, the earliest first. Raises ApiError."""
    for organization in ORGANIZATIONS:
        for plan, day in organization.plans:
            body = {"plan": plan.value, "effective_from": instant(start, day).isoformat()}
            registry.call("PUT", f"/v1/organizations/{quote(organization.org_id, safe='')}/plan", body)


def register_keys(registry: Api, start: datetime, *, late: bool) -> list[Arrived]:
    """The keys that are in time, or the ``late`` ones, with the ids they were given. Raises ApiError."""
    return [_register(registry, start, key) for key in KEYS if key.late is late]


def _register(registry: Api, start: datetime, key: KeyArrival) -> Arrived:
    body = {
        "org_id": key.org_id,
        "scope": {"type": key.scope.type.value, "id": key.scope.id},
        "provider": key.provider,
        "api_key": f"{_PREFIXES[key.provider]}{secrets.token_hex(20)}",
        "label": f"{key.scope.id}'s {key.provider} key",
        "effective_from": instant(start, key.day).isoformat(),
    }
    return Arrived(key, registry.call("POST", "/v1/credentials", body)["credential_id"])
