"""A tour through every endpoint with keys in all the places where people and programs put them by mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import psycopg

from tests.e2e.canaries import SHAPES, Canaries
from tests.e2e.canary_provider import ANSWERS
from tests.e2e.canary_sinks import owner_dsn
from tests.e2e.running import Stack, node_call, token_usage
from tests.patience import wait_for

JSON = {"Content-Type": "application/json"}


class Tour:
    """One provider's keys everywhere; what was answered is kept, but for the lease's own answer."""

    def __init__(self, stack: Stack, canaries: Canaries, provider: str) -> None:
        self.stack, self.provider = stack, provider
        self._canaries = canaries
        self.answers: list[tuple[str, bytes]] = []
        self.produced: set[tuple[int, int]] = set()
        self.booked: list[dict[str, Any]] = []
        self.org_id = stack.new_organization("enterprise")

    def key(self, place: str) -> str:
        """A key that will be put into this place."""
        return self._canaries.key(self.provider, place)

    def send(self, service: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request and keep its answer, headers and all."""
        answer = service.request(method, path, **request)
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        if not (path == "/v1/lease" and answer.status_code == 200):
            self.answers.append((f"answer {method} {path[:20]}… {answer.status_code}", head.encode() + answer.content))
        return answer

    def walk(self) -> None:
        """Everything once."""
        self.use_keys_rightly()
        self.add_keys_wrongly()
        self.put_keys_into_registry_requests()
        self.put_keys_into_headers_and_paths()
        self.put_keys_into_ledger_requests()
        self.put_keys_into_the_console()
        self.hand_in_usage_with_keys()
        self.publish_usage_with_keys()

    # The key registry

    def addition(self, key: object, **changes: object) -> dict[str, Any]:
        scope = {"type": "team", "id": f"team-{self.provider}"}
        return {"org_id": self.org_id, "scope": scope, "provider": self.provider, "api_key": key} | changes

    def use_keys_rightly(self) -> None:
        """Add, show, list, relabel, lease, verify, rotate and back, revoke; a personal key is left for the dumps."""
        registry, key = self.stack.registry, self.key("api_key")
        headers = {"Idempotency-Key": self.key("Idempotency-Key of an addition")}
        added = self.send(registry, "POST", "/v1/credentials", json=self.addition(key, label="ours"), headers=headers)
        assert added.status_code == 201
        path = f"/v1/credentials/{added.json()['credential_id']}"
        self.send(registry, "GET", path)
        self.send(registry, "PATCH", path, json={"label": "still ours"})
        self.send(registry, "GET", "/v1/credentials", params={"org_id": self.org_id})
        use = {"org_id": self.org_id, "user_id": "uma", "team_id": f"team-{self.provider}", "provider": self.provider}
        self.send(registry, "POST", "/v1/resolve", json=use)
        assert self.send(registry, "POST", "/v1/lease", json=use).json()["secret"] == key
        assert self.send(registry, "POST", f"{path}/verify").json()["result"] in {"valid", "invalid", "unknown"}
        other = {"Idempotency-Key": self.key("Idempotency-Key of a rotation"), "If-Match": added.headers["etag"]}
        rotation = {"api_key": self.key("a key that is rotated in")}
        stale = self.send(registry, "POST", f"{path}/rotate", json=rotation, headers=other)
        assert stale.status_code == 412
        del other["If-Match"]
        # The provider says this and that; once it has taken the key, the same request is answered without it.
        taken = [self.send(registry, "POST", f"{path}/rotate", json=rotation, headers=other) for _ in range(ANSWERS)]
        assert {answer.status_code for answer in taken[:-1]} <= {200, 422}
        assert taken[-1].status_code == 200
        odd = {"If-Match": self.key("If-Match")}
        assert self.send(registry, "POST", f"{path}/rotate/undo", headers=odd).status_code == 422
        assert self.send(registry, "POST", f"{path}/rotate/undo").status_code == 200
        assert self.send(registry, "POST", f"{path}/rotate", json={"key": self.key("a rotation")}).status_code == 422
        again = self.send(registry, "POST", "/v1/credentials", json=self.addition(self.key("a second key")))
        assert again.status_code == 409
        self.rotate_and_ask_the_provider(path, use)
        personal = self.addition(self.key("a key that stays"), scope={"type": "personal", "id": "uma"})
        assert self.send(registry, "POST", "/v1/credentials", json=personal).status_code == 201
        assert self.send(registry, "DELETE", path).status_code == 204

    def rotate_and_ask_the_provider(self, path: str, use: dict[str, Any]) -> None:
        """The provider repeats in its answers what it was sent, and gives all the answers that there are."""
        registry, results, statuses = self.stack.registry, set(), set()
        self.report_how_a_key_fared(path)
        for number in range(ANSWERS):
            results.add(self.send(registry, "POST", f"{path}/verify").json()["result"])
            key = self.key(f"rotation {number}")
            headers = {"Idempotency-Key": self.key("Idempotency-Key of a rotation"), "If-Match": "*"}
            rotated = self.send(registry, "POST", f"{path}/rotate", json={"api_key": key}, headers=headers)
            statuses.add(rotated.status_code)
            if rotated.status_code == 200:
                assert self.send(registry, "POST", "/v1/lease", json=use).json()["secret"] == key
                assert self.send(registry, "POST", f"{path}/rotate/undo").status_code == 200
        assert (results, statuses) == ({"valid", "invalid", "unknown"}, {200, 422})
        for change in ("label", "status", "api_key"):
            self.send(registry, "PATCH", path, json={change: self.key(f"change: {change}")})
            self.send(registry, "POST", f"{path}/rotate", json={change: [self.key(f"rotation: {change} in a list")]})
        odd = {
            "If-Match": f'"{self.key("If-Match")}"',
            "Idempotency-Key": f"{self.key('Idempotency-Key with a space')} a",
        }
        self.send(registry, "PATCH", path, json={"status": "disabled"}, headers={"If-Match": odd["If-Match"]})
        self.send(registry, "POST", f"{path}/rotate", json={"api_key": self.key("a rotation")}, headers=odd)
        self.send(registry, "PATCH", path, json={"status": "disabled"})
        self.send(registry, "POST", "/v1/lease", json=use)
        self.send(registry, "PATCH", path, json={"status": "active"})
        for name in ("actor", "action", "credential_id", "outcome", "from", "cursor", "api_key"):
            params = {"org_id": self.org_id, name: self.key(f"audit: {name}")}
            self.send(registry, "GET", "/v1/audit", params=params)
        self.send(registry, "GET", "/v1/audit", params={"org_id": self.org_id})

    def report_how_a_key_fared(self, path: str) -> None:
        """Providers repeat the key in what they say of it, and runners hand that on."""
        registry, begun = self.stack.registry, self.send(self.stack.registry, "GET", "/v1/changes").json()["next_after"]
        report = {"outcome": "rejected", "at": datetime.now(UTC).isoformat()}
        said = report | {"detail": f'{{"error": "Incorrect API key: {self.key("what a provider said")}."}}'}
        assert self.send(registry, "POST", f"{path}/reports", json=said).json()["kept"]
        assert "[masked key]" in self.send(registry, "GET", path).json()["health"]["detail"]
        for name in ("outcome", "at", "leased_at", "api_key"):
            wrong = self.send(registry, "POST", f"{path}/reports", json=report | {name: self.key(f"report: {name}")})
            assert wrong.status_code == 422
        self.send(registry, "POST", f"{path}/reports", json=report | {"detail": [self.key("report: a list")]})
        self.send(registry, "POST", f"{path}/reports", json=report | {"detail": f"{self.key('too long')} " * 20})
        self.send(registry, "POST", f"/v1/credentials/{self.key('the path of a report')}/reports", json=report)
        for name in ("after", "wait", "limit", "api_key"):
            self.send(registry, "GET", "/v1/changes", params={"after": begun, name: self.key(f"changes: {name}")})
        # All that was changed so far, as runners hear it.
        for after in range(0, begun, 200):
            self.send(registry, "GET", "/v1/changes", params={"after": after, "limit": 200})

    def add_keys_wrongly(self) -> None:
        """Every field of the request has a key in it once, and the key itself every wrong type."""
        wrong: dict[str, Callable[[str], dict[str, Any]]] = {
            "a space in it": lambda key: {"api_key": f"{key} {key}"},
            "a line feed in it": lambda key: {"api_key": f"{key}\n{key}"},
            "its header before it": lambda key: {"api_key": f"Bearer {key}"},
            "a list": lambda key: {"api_key": [key]},
            "an object": lambda key: {"api_key": {"value": key}},
            "the name of a field": lambda key: {key: "x"},
            "an unknown field": lambda key: {"secret": key},
            "the label": lambda key: {"label": key},
            "within the label": lambda key: {"label": f"prod:{key} (ours)"},
            "a label of another type": lambda key: {"label": [key]},
            "the provider": lambda key: {"provider": key},
            "the scope": lambda key: {"scope": key},
            "the scope's type": lambda key: {"scope": {"type": key, "id": "t"}},
            "the scope's id, too long": lambda key: {"scope": {"type": "team", "id": key * 9}},
            "a field of the scope": lambda key: {"scope": {"type": "team", "id": "t", "key": key}},
            "the organization, with a line feed": lambda key: {"org_id": f"{key}\n"},
            "the beginning": lambda key: {"effective_from": key},
        }
        for place, change in wrong.items():
            body = json.dumps(self.addition("too few") | change(self.key(f"addition: {place}")))
            answer = self.send(self.stack.registry, "POST", "/v1/credentials", content=body, headers=JSON)
            assert answer.status_code in (409, 422), (place, answer.text)
        for place, form in {
            "cut off": '{{"api_key": "{}',
            "no object": '"{}"',
            "no JSON": "{}",
            "two values": '{{}} "{}"',
            "single quotes": "{{'api_key': '{}'}}",
        }.items():
            body = form.format(self.key(f"addition: {place}"))
            answer = self.send(self.stack.registry, "POST", "/v1/credentials", content=body, headers=JSON)
            assert answer.is_client_error, (place, answer.text)
        self.send(self.stack.registry, "POST", "/v1/credentials", data={"api_key": self.key("a form")})
        self.send(self.stack.registry, "POST", "/v1/credentials", files={"file": self.key("a file").encode()})

    def put_keys_into_registry_requests(self) -> None:
        """Keys in bodies and queries of everything else that the registry does."""
        registry, org_id = self.stack.registry, self.org_id
        for name in ("cursor", "limit", "status", "scope_type", "api_key"):
            params = {"org_id": org_id, name: self.key(f"list: {name}")}
            self.send(registry, "GET", "/v1/credentials", params=params)
        use = {"org_id": org_id, "user_id": "uma", "provider": self.provider}
        for path in ("/v1/resolve", "/v1/lease"):
            for change in ("at", "api_key"):
                self.send(registry, "POST", path, json=use | {change: self.key(f"{path}: {change}")})
            self.send(registry, "POST", path, json=use | {"user_id": [self.key(f"{path}: user_id in a list")]})
        plan = f"/v1/organizations/{org_id}/plan"
        self.send(registry, "PUT", plan, json={"plan": self.key("plan")})
        self.send(registry, "PUT", plan, json={"plan": "pro", "effective_from": self.key("plan: effective_from")})

    def put_keys_into_headers_and_paths(self) -> None:
        """Keys where they are logged by so many servers: paths, queries, headers, tokens."""
        for service in (self.stack.registry, self.stack.ledger, self.stack.console):
            for path in ("/{}", "/v1/credentials/{}", "/v1/credentials/{}/", "/v1/entries/{}/receipt", "/receipts/{}"):
                for method in ("GET", "DELETE", "PATCH", "OPTIONS"):
                    key = self.key(f"path {method} {path}")
                    self.send(service, method, path.format(key))
                    self.send(service, method, path.format(quote(f"a {key}\n", safe="")))
            for path in ("/v1/providers", "/v1/credentials/", "/healthz", "/metrics", "/savings", "/v1/quote/"):
                self.send(service, "GET", path, params={"api_key": self.key(f"query of {path}")})
            for name in ("Authorization", "X-Api-Key", "X-Goog-Api-Key", "Cookie", "User-Agent", "Content-Type"):
                self.send(service, "POST", "/v1/credentials", headers={name: self.key(f"header {name}")}, content=b"{}")
            for name in ("Host", "Accept", "Referer", "X-Request-Id", "Traceparent", "X-Forwarded-For"):
                self.send(service, "GET", "/v1/providers", headers={name: self.key(f"header {name}")})
            for form in ("Bearer {}", "Bearer a.{}.c", "Bearer {}.b.c", "Basic {}", "{}"):
                headers = {"Authorization": form.format(self.key(f"token {form}"))}
                self.send(service, "GET", "/v1/credentials", headers=headers)
                self.send(service, "GET", f"/v1/organizations/{self.org_id}/entries", headers=headers)

    # The ledger

    def put_keys_into_ledger_requests(self) -> None:
        """Keys in queries, quotes and cursors."""
        ledger, base = self.stack.ledger, f"/v1/organizations/{self.org_id}"
        for name in ("from", "to", "key_source", "byok_scope", "kind", "cursor", "order", "limit", "api_key"):
            self.send(ledger, "GET", f"{base}/entries", params={name: self.key(f"entries: {name}")})
        for name in ("provider", "model", "user_id", "credential_id", "event_id", "flag"):
            self.send(ledger, "GET", f"{base}/entries", params={name: self.key(f"entries: {name}")})
            self.send(ledger, "GET", f"{base}/summary", params={name: self.key(f"summary: {name}")})
        self.send(ledger, "GET", f"{base}/summary", params={"group_by": self.key("group_by")})
        for form in ("csv", "jsonl", self.key("export: format")):
            params = {"format": form, "model": self.key("export: model")}
            self.send(ledger, "GET", f"{base}/export", params=params)
        quoted = {"org_id": self.org_id, "user_id": "uma", "provider": "openai", "model": "gpt-5.4"}
        for name in ("provider", "model", "time", "calls", "api_key"):
            self.send(ledger, "POST", "/v1/quote", json=quoted | {name: self.key(f"quote: {name}")})

    def put_keys_into_the_console(self) -> None:
        """Keys in the form that asks for a token, in its cookie, and in the filters."""
        console = self.stack.console
        for path in ("token", "persona"):
            form = {name: self.key(f"sign-in by {path}: {name}") for name in ("token", "persona", "next")}
            self.send(console, "POST", f"/sign-in/{path}", data=form)
        self.send(console, "GET", "/savings", headers={"Cookie": f"byok_session_0={self.key('console cookie')}"})
        self.send(console, "POST", "/sign-in/token", data={"token": self.stack.told["tokens"]["platform"]})
        for name in ("from", "to", "key"):
            params = {"org_id": self.org_id, name: self.key(f"console: {name}")}
            assert "Savings of" in self.send(console, "GET", "/savings", params={"org_id": self.org_id}).text
            self.send(console, "GET", "/savings", params=params)
        self.send(console, "POST", "/preferences", data={name: self.key(f"form: {name}") for name in ("csrf", "zone")})
        self.put_keys_into_the_forms_of_keys()

    def put_keys_into_the_forms_of_keys(self) -> None:
        """The key where it belongs, and in every other field of the forms; with all that providers say of it."""
        console, about = self.stack.console, {"org_id": self.org_id}
        csrf = re.search(r'name="csrf" value="([^"]+)"', console.get("/credentials/new", params=about).text)
        assert csrf is not None
        form = {"csrf": csrf[1], "level": "personal", "id": "console", "provider": self.provider}

        def post(path: str, **fields: str) -> httpx.Response:
            return self.send(console, "POST", path, params=about, data=form | fields)

        for name in ("level", "id", "provider", "label", "once", "sure", "csrf"):
            fields = {"id": f"console-{name}", "api_key": self.key(f"console form: {name}")}
            post("/credentials/new", **(fields | {name: self.key(f"form: {name}")}))
        for name in ("id", "provider", "label", "level", "cursor"):
            query = about | {name: self.key(f"console query: {name}")}
            self.send(console, "GET", "/credentials/new", params=query)
            self.send(console, "GET", "/credentials", params=query)
        other = "openai" if self.provider != "openai" else "google"
        post("/credentials/new", provider=other, api_key=self.key("console form: another provider's"))
        added = post("/credentials/new", api_key=f" \u200b“{self.key('console form: the key')}”\n", label="ours")
        assert "Saved." in added.text
        path = added.url.path
        again = post("/credentials/new", api_key=self.key("console form: a second key"))
        assert again.status_code == 409
        seen = {"act": "replace", "seen": "*"}
        for _ in range(ANSWERS):
            answer = post(path, **seen, api_key=self.key("console form: a new key"))
            assert answer.status_code in {200, 422}
            assert post(path, act="check").status_code == 200
        for name in ("provider", "seen", "once", "sure", "act"):
            post(path, **(seen | {"api_key": self.key("console form: replaced"), name: self.key(f"replace: {name}")}))
        assert post(path, act="rename", label=self.key("console form: a new label"), seen="*").status_code == 422
        for name in ("search", "provider", "day"):
            self.send(console, "GET", "/models", params={name: self.key(f"models: {name}")})
        self.send(console, "GET", path, params=about)
        self.send(console, "GET", f"/credentials/{self.key('console path')}", params=about)
        assert "Deleted." in post(f"{path}/delete", seen="*").text

    # Usage

    def events_with_keys(self, how: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Events that are refused, with a key in each field in which one can be recognised."""
        for name in ("specversion", "type", "time", "data"):
            yield name, token_usage(self.org_id) | {name: self.key(f"{how}: {name}")}
        for name in ("id", "source"):
            yield name, token_usage(self.org_id) | {name: f"{self.key(f'{how}: {name}')}\n"}
        yield "subject", token_usage(self.org_id, id="") | {"subject": self.key(f"{how}: subject")}
        for name in ("input_tokens", "cached_input_tokens", "output_tokens"):
            yield name, token_usage(self.org_id, data={name: self.key(f"{how}: data.{name}")})
        for name in ("user_id", "team_id", "run_id", "agent_id", "provider", "model"):
            yield name, token_usage(self.org_id, data={name: f"{self.key(f'{how}: data.{name}')}\n"})
        for claim in ({"source": self.key(f"{how}: a claim's source")}, self.key(f"{how}: a claim")):
            yield "credential", token_usage(self.org_id, data={"credential": claim})
        long = f"{'x' * 245} {self.key(f'{how}: where a detail is cut')}"
        yield "id", token_usage(self.org_id) | {"id": long}
        yield "calls", node_call(self.org_id, data={"calls": {self.key(f"{how}: a name in calls"): 1}})

    def hand_in_usage_with_keys(self) -> None:
        """Over HTTP: refused, while its neighbour goes on; fields that nobody knows are left out."""
        ledger = self.stack.ledger
        for name, event in self.events_with_keys("HTTP"):
            answer = self.send(ledger, "POST", "/v1/usage-events", json=event)
            assert answer.status_code == 422, (name, answer.text)
            neighbour = node_call(self.org_id)
            answer = self.send(ledger, "POST", "/v1/usage-events", json=[neighbour, event])
            assert (answer.status_code, answer.json()["accepted"]) == (207, 1), (name, answer.text)
            self.booked.append(neighbour)
        broken = f'[{{"id": "{self.key("HTTP: cut off")}'
        self.send(ledger, "POST", "/v1/usage-events", content=broken, headers=JSON)
        unknown = {"api_key": self.key("HTTP: an unknown field"), "headers": [{"x": self.key("HTTP: deep in one")}]}
        good = node_call(self.org_id, data=unknown, subject=self.key("HTTP: an unknown attribute"))
        assert self.send(ledger, "POST", "/v1/usage-events", json=good).status_code == 202
        self.booked.append(good)

    def publish_usage_with_keys(self) -> None:
        """By Kafka: dead letters, with a neighbour that is booked; and one whose key is where nobody looks."""
        for _name, event in self.events_with_keys("Kafka"):
            self.produced.add(self.stack.publish(node_call(self.org_id), event))
        model = token_usage(self.org_id, data={"model": self.key("Kafka: an unknown model")})
        self.produced.add(self.stack.publish(model))
        for form in ("{}", '{{"key": "{}"', "{}\x00", "x{}"):
            value = form.format(f" {self.key(f'Kafka: {form!r}')}").encode()
            for encoded in (value, value.decode().encode("utf-16")):
                self.produced.add(self.stack.send(encoded, self.org_id))
        unknown = {"api_key": self.key("Kafka: an unknown field")}
        good = token_usage(self.org_id, data=unknown, subject=self.key("Kafka: an unknown attribute"))
        self.produced.add(self.stack.publish(good))
        self.booked.append(good)
        self.produced.add(self.stack.send(json.dumps(good).encode(), self.key("Kafka: a record's key")))

    def wait_until_booked(self) -> None:
        """Wait until all that was published is an entry, a duplicate or a dead letter."""
        for place in self.produced:
            self.stack.wait_covered(place)
        wanted = {event["id"] for event in self.booked}
        entries: Callable[[], list[dict[str, Any]]] = lambda: self.stack.entries(self.org_id)  # noqa: E731
        wait_for("the good events", lambda: wanted <= {entry["event_id"] for entry in entries()})
        # Over HTTP, too, nothing but the hint.
        self.send(self.stack.ledger, "GET", f"/v1/organizations/{self.org_id}/entries")
        for entry in entries()[:3]:
            self.send(self.stack.ledger, "GET", f"/v1/entries/{entry['entry_id']}/receipt")

    def walk_while_a_table_is_gone(self) -> None:
        """Errors that nobody foresaw, so that there are tracebacks. Each ends its connection."""
        registry, ledger, last = self.stack.registry, self.stack.ledger, {"Connection": "close"}
        with _renamed(self.stack, "registry", "registry.secret_version", "away"):
            body = self.addition(self.key("addition in an accident"), scope={"type": "team", "id": "accident"})
            assert self.send(registry, "POST", "/v1/credentials", json=body, headers=last).status_code == 500
            use = {"org_id": self.org_id, "user_id": "uma", "provider": self.provider}
            assert self.send(registry, "POST", "/v1/lease", json=use, headers=last).status_code == 500
        with _renamed(self.stack, "registry", "registry.credential", "away"):
            path = f"/v1/credentials/{self.key('path in an accident')}"
            assert self.send(registry, "GET", path, headers=last).status_code == 500
        with _renamed(self.stack, "ledger", "ledger.entries", "away", kind="VIEW"):
            params = {"model": self.key("filter in an accident")}
            path = f"/v1/organizations/{self.org_id}/entries"
            assert self.send(ledger, "GET", path, params=params, headers=last).status_code == 500


@contextmanager
def _renamed(stack: Stack, database: str, name: str, other: str, *, kind: str = "TABLE") -> Iterator[None]:
    schema, _, table = name.partition(".")
    with psycopg.connect(owner_dsn(stack, database), autocommit=True) as owner:
        owner.execute(f"ALTER {kind} {name} RENAME TO {other}")
        try:
            yield
        finally:
            owner.execute(f"ALTER {kind} {schema}.{other} RENAME TO {table}")


def tours(stack: Stack, canaries: Canaries) -> list[Tour]:
    """One for each provider."""
    return [Tour(stack, canaries, provider) for provider in SHAPES]
