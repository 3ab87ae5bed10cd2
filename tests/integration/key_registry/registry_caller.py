"""The registry's application as one organization's callers use it, and how their tests read refusals."""

from __future__ import annotations

import json
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


def path_of(credential: dict[str, Any]) -> str:
    return f"/v1/credentials/{credential['credential_id']}"


def patch(api: Api, credential: dict[str, Any], who: dict[str, str] | None = None, **body: object) -> Response:
    return api.client.patch(path_of(credential), json=body, headers=who or api.admin)


def shown(api: Api, credential: dict[str, Any]) -> dict[str, Any]:
    response = api.client.get(path_of(credential), headers=api.platform)
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def status(api: Api, credential: dict[str, Any]) -> tuple[str, str | None]:
    body = shown(api, credential)
    return body["status"], body["shadowed_by"]


def messages(database: Any, credential: dict[str, Any]) -> list[dict[str, Any]]:
    statement = "SELECT payload FROM registry.log WHERE key = %s ORDER BY seq"
    return [json.loads(payload) for (payload,) in database.rows(statement, f"credential:{credential['credential_id']}")]


def shown_tag(api: Api, path: str) -> str:
    return str(api.client.get(path, headers=api.admin).headers["etag"])
