"""The registry's application as one organization's callers use it, and how their tests read refusals."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from httpx import Response

CANARY = "sk-ant-api03-canary-canary-canary-1234"
EVERYTHING = "credentials:write credentials:lease plans:write registry:backdate ledger:read usage:write"


class Api:
    """The application as one organization's callers use it."""

    def __init__(self, client: TestClient, tokens: Any, org: str) -> None:
        self.client, self.tokens, self.org = client, tokens, org
        self.platform = tokens.service(EVERYTHING)
        self.admin = tokens.person("ada", org, "admin")

    def add(
        self, who: dict[str, str], level: str, owner: str, provider: str = "openai", key: str = CANARY, **more: object
    ) -> Response:
        body = {"scope": {"type": level, "id": owner}, "provider": provider, "api_key": key, **more}
        return self.client.post("/v1/credentials", json=body, headers=who)

    def plan(self, plan: str, **more: object) -> Response:
        return self.client.put(f"/v1/organizations/{self.org}/plan", json={"plan": plan, **more}, headers=self.platform)

    def ask(self, path: str, user: str = "uma", provider: str = "openai", **more: object) -> Response:
        body = {"org_id": self.org, "user_id": user, "provider": provider, **more}
        return self.client.post(f"/v1/{path}", json=body, headers=self.platform)


def refused(response: Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, after the checks that hold for every one."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail"} <= body.keys()
    assert body["status"] == status
    assert CANARY not in response.text
    return body


def names_field(response: Response, field: str) -> None:
    """The refusal of a request for this field of it."""
    errors = refused(response, 422, "invalid_request")["errors"]
    assert field in {error["field"] for error in errors}, errors
