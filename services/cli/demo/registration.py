"""Plans and keys over the key registry's own HTTP API, backdated to when they are meant to count from."""

from __future__ import annotations

import http.client
import json
import secrets
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from services.cli.demo.company import KEYS, ORGANIZATIONS, Arrived, KeyArrival, instant

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
        self._address = urlsplit(url).netloc
        self._token = token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON object. Raises ApiError."""
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(f"{method} {path}: {response.status} {answer.get('code')}: {answer.get('detail')}")
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
