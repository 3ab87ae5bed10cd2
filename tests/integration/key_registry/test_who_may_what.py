"""The whole matrix of callers, scopes and operations over real HTTP, against expectations that no code of ours made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import pytest
from httpx import Response

from tests.integration.key_registry.conftest import served
from tests.integration.key_registry.who_may_what import CALLERS, Cell, cells
from tests.patience import PATIENCE_SECONDS

KEY = "sk-ant-api03-m4tr1xm4tr1xm4tr1x-9876"
EVERY_SCOPE = "credentials:write credentials:lease plans:write registry:backdate ledger:read usage:write"
OWNERS = {"organization": "acme", "team": "growth", "personal": "uma"}
SERVICES = {
    "writer": "credentials:write",
    "lease": "credentials:lease",
    "usage": "usage:write",
    "reader": "ledger:read",
    "plans": "plans:write",
    "back": "registry:backdate",
    "none": "",
}
ONE = "/v1/credentials/{credential_id}"
PLAN = "/v1/organizations/{org_id}/plan"
_numbers = itertools.count(1)


class Acme:
    """An organization with one key, of the scope that is being tried, and everybody who comes to it."""

    def __init__(self, http: httpx.Client, tokens: Any, scope: str) -> None:
        self.http, self.scope = http, scope
        # A name of its own for each, so that no key stands in another's way.
        self.org = f"acme-{next(_numbers)}"
        self.callers = self._callers(tokens)
        self.root = self.callers["all"]
        self.http.put(self.plan_path, json={"plan": "enterprise"}, headers=self.root).raise_for_status()
        added = self.add(self.root, "openai", label="ours").raise_for_status().json()
        self.path = f"/v1/credentials/{added['credential_id']}"
        self.whole = added

    def _callers(self, tokens: Any) -> dict[str, dict[str, str]]:
        org = self.org
        services = {name: tokens.service(scope, org) for name, scope in SERVICES.items()}
        return services | {
            "admin": tokens.person("ada", org, "admin"),
            "owner": tokens.person("uma", org),
            "bob": tokens.person("bob", org),
            "lead": tokens.person("lea", org, growth="admin"),
            "mate": tokens.person("mia", org, growth="member"),
            "other": tokens.person("oli", org, sales="admin"),
            "guest": tokens.sign("uma", org, teams={"growth": "admin"}),
            "alien": tokens.person("uma", "elsewhere", "admin", growth="admin"),
            "remote": tokens.service(EVERY_SCOPE, "elsewhere"),
            "support": tokens.sign("uma", "*", org_role="admin", teams={"growth": "admin"}),
            "all": tokens.service(EVERY_SCOPE),
            "nobody": {},
        }

    @property
    def plan_path(self) -> str:
        return f"/v1/organizations/{self.org}/plan"

    def add(self, who: dict[str, str], provider: str, **more: object) -> Response:
        owner = self.org if self.scope == "organization" else OWNERS[self.scope]
        body = {"org_id": self.org, "scope": {"type": self.scope, "id": owner}, "provider": provider, "api_key": KEY}
        return self.http.post("/v1/credentials", json=body | more, headers=who)

    def ask(self, path: str, who: dict[str, str], user: str = "uma") -> Response:
        team = {"team_id": "growth"} if self.scope == "team" else {}
        body = {"org_id": self.org, "user_id": user, "provider": "openai"} | team
        return self.http.post(path, json=body, headers=who)

    def try_it(self, operation: str, caller: str) -> Response:
        return OPERATIONS[operation].attempt(self, self.callers[caller], caller)

    def relabel(self, who: dict[str, str]) -> Response:
        return self.http.patch(self.path, json={"label": "theirs"}, headers=who)

    def switch(self, who: dict[str, str], *, enabled: bool) -> Response:
        return self.http.patch(self.path, json={"enabled": enabled}, headers=who)

    def post(self, what: str, who: dict[str, str]) -> Response:
        return self.http.post(f"{self.path}{what}", headers=who)

    def rotate(self, who: dict[str, str]) -> Response:
        return self.http.post(f"{self.path}/rotate", json={"api_key": f"{KEY}-2"}, headers=who)

    def report(self, who: dict[str, str]) -> Response:
        body = {"outcome": "rejected", "at": datetime.now(UTC).isoformat(), "detail": "no"}
        return self.http.post(f"{self.path}/reports", json=body, headers=who)

    def add_names(self, who: dict[str, str]) -> Response:
        body = {"provider": "openai", "aliases": {f"of-{self.org}": "gpt-5.4"}}
        return self.http.post("/v1/models/aliases", json=body, headers=who)

    def list(self, who: dict[str, str], **query: str) -> Response:
        return self.http.get("/v1/credentials", params=query, headers=who)

    def audit(self, who: dict[str, str], **query: str) -> Response:
        return self.http.get("/v1/audit", params=query, headers=who)

    def set_plan(self, who: dict[str, str], **more: str) -> Response:
        return self.http.put(self.plan_path, json={"plan": "pro"} | more, headers=who)

    def state(self) -> tuple[Any, Any]:
        """All that a refused operation must leave as it was."""
        listed = self.http.get("/v1/credentials", params={"org_id": self.org}, headers=self.root).json()
        return listed, self.http.get(self.plan_path, headers=self.root).json()

    def outcome(self, operation: str, answer: Response) -> str:
        """What the table calls this answer."""
        if answer.status_code != 200 or operation.split("-")[-1] not in {"get", "list"}:
            return str(answer.status_code)
        found = [answer.json()] if operation == "get" else answer.json()["items"]
        if not found:
            return "no"
        (shown,) = found
        if shown == self.whole:
            return "hint"
        assert shown == self.whole | {"hint": None, "label": None, "check": None, "health": None}
        return "bare"


class Operation(NamedTuple):
    """A row's name in code: which operation of the API it is, and how somebody tries it."""

    route: str
    attempt: Callable[[Acme, dict[str, str], str], Response]


BACKDATED = {"effective_from": "2026-05-01T00:00:00Z"}
NAMED_OTHERWISE = {"lead": "lea", "mate": "mia", "owner": "uma", "support": "uma"}
OPERATIONS = {
    "add": Operation("post /v1/credentials", lambda acme, who, _: acme.add(who, "google")),
    "add-backdated": Operation("post /v1/credentials", lambda acme, who, _: acme.add(who, "google", **BACKDATED)),
    "list": Operation("get /v1/credentials", lambda acme, who, _: acme.list(who, org_id=acme.org)),
    "own-list": Operation("get /v1/credentials", lambda acme, who, _: acme.list(who)),
    "get": Operation(f"get {ONE}", lambda acme, who, _: acme.http.get(acme.path, headers=who)),
    "get-unknown": Operation(f"get {ONE}", lambda acme, who, _: acme.http.get(f"{acme.path}0", headers=who)),
    "relabel": Operation(f"patch {ONE}", lambda acme, who, _: acme.relabel(who)),
    "disable": Operation(f"patch {ONE}", lambda acme, who, _: acme.switch(who, enabled=False)),
    "enable": Operation(f"patch {ONE}", lambda acme, who, _: acme.switch(who, enabled=True)),
    "rotate": Operation(f"post {ONE}/rotate", lambda acme, who, _: acme.rotate(who)),
    "undo": Operation(f"post {ONE}/rotate/undo", lambda acme, who, _: acme.post("/rotate/undo", who)),
    "verify": Operation(f"post {ONE}/verify", lambda acme, who, _: acme.post("/verify", who)),
    "revoke": Operation(f"delete {ONE}", lambda acme, who, _: acme.http.delete(acme.path, headers=who)),
    "lease": Operation("post /v1/lease", lambda acme, who, _: acme.ask("/v1/lease", who)),
    "resolve": Operation("post /v1/resolve", lambda acme, who, _: acme.ask("/v1/resolve", who)),
    "resolve-own": Operation(
        "post /v1/resolve",
        lambda acme, who, caller: acme.ask("/v1/resolve", who, user=NAMED_OTHERWISE.get(caller, caller)),
    ),
    "report": Operation(f"post {ONE}/reports", lambda acme, who, _: acme.report(who)),
    "changes": Operation("get /v1/changes", lambda acme, who, _: acme.http.get("/v1/changes", headers=who)),
    "providers": Operation("get /v1/providers", lambda acme, who, _: acme.http.get("/v1/providers", headers=who)),
    "models": Operation("get /v1/models", lambda acme, who, _: acme.http.get("/v1/models", headers=who)),
    "add-names": Operation("post /v1/models/aliases", lambda acme, who, _: acme.add_names(who)),
    "get-plan": Operation(f"get {PLAN}", lambda acme, who, _: acme.http.get(acme.plan_path, headers=who)),
    "set-plan": Operation(f"put {PLAN}", lambda acme, who, _: acme.set_plan(who)),
    "sessions": Operation("get /v1/sessions", lambda acme, who, _: acme.http.get("/v1/sessions", headers=who)),
    "end-sessions": Operation(
        "post /v1/sessions/end", lambda acme, who, _: acme.http.post("/v1/sessions/end", headers=who)
    ),
    "audit": Operation("get /v1/audit", lambda acme, who, _: acme.audit(who, org_id=acme.org)),
    "own-audit": Operation("get /v1/audit", lambda acme, who, _: acme.audit(who)),
    "backdate-plan": Operation(f"put {PLAN}", lambda acme, who, _: acme.set_plan(who, **BACKDATED)),
}


@pytest.fixture(scope="module")
def http(client: Any) -> Iterator[httpx.Client]:
    with served(client.app) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as http:
        yield http


ROWS = {key: list(row) for key, row in itertools.groupby(cells(), key=lambda cell: (cell.operation, cell.scope))}


@pytest.mark.parametrize(("operation", "scope"), ROWS)
def test_a_row_of_the_table(http: httpx.Client, tokens: Any, operation: str, scope: str) -> None:
    acme, wrong = _acme(http, tokens, operation, scope), []
    before = acme.state()
    for cell in ROWS[operation, scope]:
        answer = acme.try_it(operation, cell.caller)
        _check_answer(acme, cell, answer)
        if (got := acme.outcome(operation, answer)) != cell.expected:
            wrong.append(f"{cell.caller}: {got} instead of {cell.expected}")
        after = acme.state()
        if answer.is_error:
            assert after == before, f"{cell.caller} was refused, and yet something changed"
        elif after != before:
            acme = _acme(http, tokens, operation, scope)
            before = acme.state()
    assert not wrong, wrong


def _acme(http: httpx.Client, tokens: Any, operation: str, scope: str) -> Acme:
    acme = Acme(http, tokens, scope)
    if operation == "enable":
        acme.switch(acme.root, enabled=False).raise_for_status()
    if operation in {"get", "list", "own-list"}:
        # Of what is shown there is something.
        acme.report(acme.root).raise_for_status()
        acme.whole = acme.http.get(acme.path, headers=acme.root).json()
        assert acme.whole["health"]["outcome"] == "rejected"
    if operation == "undo":
        acme.rotate(acme.root).raise_for_status()
    return acme


def _check_answer(acme: Acme, cell: Cell, answer: Response) -> None:
    if cell.operation != "lease" or answer.is_error:
        assert KEY not in answer.text
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
    if answer.status_code == 404:
        # Not a word, header or length tells what is hidden from what is not there.
        unknown = acme.try_it("get-unknown", cell.caller)
        assert answer.content == unknown.content
        # Each request has its own time and its own trace.
        its_own = {"date": "", "traceparent": ""}
        assert {**answer.headers, **its_own} == {**unknown.headers, **its_own}
    if cell.caller == "nobody":
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_table_is_whole(http: httpx.Client) -> None:
    """Each operation of the API is in the table, so that a new one is not forgotten here."""
    every = cells()
    print(f"{len(every)} cells: {len(ROWS)} operations on scopes x {len(CALLERS)} callers")  # noqa: T201 (pytest -rP)
    assert len(every) == len(ROWS) * len(CALLERS)
    assert {operation for operation, _ in ROWS} == set(OPERATIONS)
    described = http.get("/openapi.json").json()["paths"]
    routes = {f"{method} {path}" for path, methods in described.items() for method in methods if "/v1/" in path}
    assert routes == {operation.route for operation in OPERATIONS.values()}
