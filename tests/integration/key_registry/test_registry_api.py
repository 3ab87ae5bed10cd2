"""The registry's API against a real PostgreSQL: who may do what, what is refused and how, and when keys apply."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from prometheus_client.parser import text_string_to_metric_families

from services.key_registry.api.routes import registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.registry import Registry
from services.key_registry.metrics import registry_metrics
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import BODIES, UNLIMITED
from tests.integration.key_registry.proxied_broker import free_port
from tests.integration.key_registry.registry_caller import CANARY, Api, names_field, refused


def test_an_added_key_is_shown_without_itself(enterprise: Api) -> None:
    response = enterprise.add(enterprise.admin, "organization", enterprise.org, label="main")
    body = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/credentials/{body['credential_id']}"
    assert body | {"credential_id": "", "created_at": "", "active": []} == {
        "credential_id": "",
        "org_id": enterprise.org,
        "scope": {"type": "organization", "id": enterprise.org},
        "provider": "openai",
        "label": "main",
        "hint": "…1234",
        "status": "active",
        "shadowed_by": None,
        "active": [],
        "created_at": "",
        "last_used_at": None,
        "check": {"result": "valid", "reason": "accepted", "checked_at": body["created_at"]},
        "health": None,
        "undo_until": None,
    }
    assert body["active"] == [{"from": body["created_at"], "to": None}]
    assert body["created_at"].endswith("Z")
    shown = enterprise.client.get(f"/v1/credentials/{body['credential_id']}", headers=enterprise.admin)
    assert shown.json() == body
    assert CANARY not in response.text


def test_of_a_short_key_nothing_is_shown(enterprise: Api) -> None:
    assert enterprise.add(enterprise.admin, "organization", enterprise.org, key="short-key-12345").json()["hint"] == "…"


def test_the_key_is_in_no_table_and_no_message(enterprise: Api, database: Any) -> None:
    assert enterprise.add(enterprise.admin, "organization", enterprise.org).status_code == 201
    tables = database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'registry'")
    dump = "".join(str(database.rows(f"SELECT t::text FROM registry.{name} t")) for (name,) in tables)
    assert enterprise.org in dump
    for form in (CANARY, CANARY.encode().hex()):
        assert form not in dump


def test_no_log_line_holds_a_key(enterprise: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    enterprise.add(enterprise.admin, "organization", enterprise.org)
    enterprise.ask("lease")
    enterprise.add(enterprise.admin, "organization", enterprise.org, key=CANARY + " ")
    enterprise.add(enterprise.admin, "organization", enterprise.org, unknown=CANARY)
    assert CANARY not in caplog.text


# Refusals of POST /v1/credentials


def test_a_second_active_key_in_a_slot(enterprise: Api) -> None:
    enterprise.add(enterprise.platform, "team", "t", org_id=enterprise.org)
    refused(enterprise.add(enterprise.admin, "team", "t"), 409, "credential_exists")
    # It wins over the overlap, which a backdated one has besides.
    backdated = enterprise.add(
        enterprise.platform, "team", "t", org_id=enterprise.org, effective_from="2026-05-01T00:00:00Z"
    )
    refused(backdated, 409, "credential_exists")
    assert enterprise.add(enterprise.admin, "team", "t", provider="google").status_code == 201
    assert enterprise.add(enterprise.admin, "team", "other").status_code == 201


def test_keys_below_an_organization_key_are_refused_on_enterprise_only(enterprise: Api, tokens: Any) -> None:
    organization = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    uma = tokens.person("uma", enterprise.org)
    refused(enterprise.add(uma, "personal", "uma"), 409, "organization_key_enforced")
    refused(enterprise.add(enterprise.admin, "team", "t"), 409, "organization_key_enforced")
    assert enterprise.add(uma, "personal", "uma", provider="google").status_code == 201
    enterprise.plan("pro")
    assert enterprise.add(uma, "personal", "uma").status_code == 201
    enterprise.plan("enterprise")
    enterprise.client.delete(f"/v1/credentials/{organization['credential_id']}", headers=enterprise.admin)
    assert enterprise.add(enterprise.admin, "team", "t").status_code == 201


@pytest.mark.parametrize(
    ("plan", "level", "allowed"),
    [
        (None, "personal", False),
        ("free", "personal", False),
        ("free", "team", False),
        ("free", "organization", False),
        ("pro", "personal", True),
        ("pro", "team", True),
        ("pro", "organization", False),
        ("enterprise", "organization", True),
    ],
)
def test_the_plan_of_now_decides_the_levels(api: Api, plan: str | None, level: str, allowed: bool) -> None:
    if plan is not None:
        api.plan(plan)
    owner = {"organization": api.org, "team": "t", "personal": "uma"}[level]
    response = api.add(api.platform, level, owner, org_id=api.org)
    if allowed:
        assert response.status_code == 201
    else:
        refused(response, 403, "plan_not_entitled")


def test_an_unknown_provider(enterprise: Api) -> None:
    response = enterprise.add(enterprise.admin, "organization", enterprise.org, provider="mistral")
    refused(response, 422, "provider_not_supported")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"api_key": "seven77"}, "api_key"),
        ({"api_key": "k" * 4097}, "api_key"),
        ({"api_key": f"{CANARY} {CANARY}"}, "api_key"),
        ({"api_key": f"{CANARY}\nexport MORE=1"}, "api_key"),
        ({"api_key": " " * 8}, "api_key"),
        ({"api_key": f"{CANARY}\u0000"}, "api_key"),
        ({"api_key": f"{CANARY}é"}, "api_key"),
        ({"api_key": [CANARY]}, "api_key"),
        ({"label": "a\u0000b"}, "label"),
        ({"label": ""}, "label"),
        ({"label": "x" * 201}, "label"),
        ({"label": CANARY}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"provider": "open\u0000ai"}, "provider"),
        ({"provider": "\ud800"}, "provider"),
        ({"scope": {"type": "team", "id": ""}}, "scope.id"),
        ({"scope": {"type": "team", "id": "x" * 129}}, "scope.id"),
        ({"scope": {"type": "team", "id": "a\u0000"}}, "scope.id"),
        ({"scope": {"type": "planet", "id": "a"}}, "scope.type"),
        ({"scope": {"type": "organization", "id": "another"}}, "scope.id"),
        ({"effective_from": "2026-05-01T00:00:00"}, "effective_from"),
        ({"effective_from": "2099-05-01T00:00:00Z"}, "effective_from"),
    ],
)
def test_a_request_that_is_not_valid_names_the_field(enterprise: Api, change: dict[str, Any], field: str) -> None:
    body = {"scope": {"type": "team", "id": "t"}, "provider": "openai", "api_key": CANARY, "org_id": enterprise.org}
    response = enterprise.client.post(
        "/v1/credentials",
        content=json.dumps(body | change),
        headers=enterprise.platform | {"content-type": "application/json"},
    )
    names_field(response, field)


@pytest.mark.parametrize("name", [CANARY, "surprise", "my-own-secret-of-no-known-shape"])
def test_a_request_with_an_unknown_field_names_its_place_alone(enterprise: Api, name: str) -> None:
    body = {"scope": {"type": "team", "id": "t"}, "provider": "openai", "api_key": CANARY}
    in_scope = {"scope": {"type": "team", "id": "t", name: "b"}}
    for sent, place in ((body | {name: 1}, "body"), (body | in_scope, "scope"), (body | in_scope | {name: 1}, "body")):
        response = enterprise.client.post("/v1/credentials", json=sent, headers=enterprise.admin)
        names_field(response, place)
        assert name not in response.text
        assert "unknown field" in response.text
    query = enterprise.client.get("/v1/audit", params={name: "x"}, headers=enterprise.admin)
    assert name not in query.text


def test_a_body_that_is_too_large_or_no_json(enterprise: Api) -> None:
    headers = enterprise.admin | {"content-type": "application/json"}
    large = enterprise.client.post("/v1/credentials", content=b"[" + b" " * 70_000, headers=headers)
    refused(large, 413, "request_too_large")
    broken = enterprise.client.post("/v1/credentials", content=b'{"api_key": "' + CANARY.encode(), headers=headers)
    refused(broken, 400, "malformed_json")


# Organizations


def test_a_token_for_every_organization_must_name_one(enterprise: Api) -> None:
    names_field(enterprise.add(enterprise.platform, "team", "t"), "org_id")
    names_field(enterprise.client.get("/v1/credentials", headers=enterprise.platform), "org_id")
    body = {"user_id": "uma", "provider": "openai"}
    names_field(enterprise.client.post("/v1/lease", json=body, headers=enterprise.platform), "org_id")


def test_another_organization_is_forbidden_by_name_and_unknown_by_id(enterprise: Api, tokens: Any) -> None:
    mine = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    stranger = tokens.person("ada", "another-org", "admin")
    refused(enterprise.add(stranger, "team", "t", org_id=enterprise.org), 403, "organization_forbidden")
    for path in (f"/v1/organizations/{enterprise.org}/plan", f"/v1/credentials?org_id={enterprise.org}"):
        refused(enterprise.client.get(path, headers=stranger), 403, "organization_forbidden")
    ours = {"org_id": enterprise.org, "user_id": "ada", "provider": "openai"}
    refused(enterprise.client.post("/v1/resolve", json=ours, headers=stranger), 403, "organization_forbidden")
    path = f"/v1/credentials/{mine['credential_id']}"
    refused(enterprise.client.get(path, headers=stranger), 404, "not_found")
    refused(enterprise.client.delete(path, headers=stranger), 404, "not_found")
    refused(enterprise.client.patch(path, json={"label": "x"}, headers=stranger), 404, "not_found")
    assert enterprise.client.get("/v1/credentials", headers=stranger).json()["items"] == []
    elsewhere = tokens.service("credentials:write", "another-org")
    refused(enterprise.client.delete(path, headers=elsewhere), 404, "not_found")
    assert enterprise.client.get(path, headers=enterprise.admin).json() == mine


def test_without_a_token(client: TestClient) -> None:
    refused(client.get("/v1/providers"), 401, "unauthenticated")
    refused(client.get("/v1/providers", headers={"Authorization": "Bearer nonsense"}), 401, "invalid_token")


# People


def test_a_personal_key_is_its_owners_alone(enterprise: Api, tokens: Any) -> None:
    uma, bob = tokens.person("uma", enterprise.org), tokens.person("bob", enterprise.org)
    refused(enterprise.add(bob, "personal", "uma"), 403, "forbidden")
    refused(enterprise.add(enterprise.admin, "personal", "uma"), 403, "forbidden")
    added = enterprise.add(uma, "personal", "uma", label="mine").json()
    path = f"/v1/credentials/{added['credential_id']}"
    refused(enterprise.client.get(path, headers=bob), 404, "not_found")
    refused(enterprise.client.delete(path, headers=bob), 404, "not_found")
    assert enterprise.client.get("/v1/credentials", headers=bob).json()["items"] == []
    # An admin knows that there is one, and may end it, but not more.
    assert enterprise.client.get(path, headers=enterprise.admin).json() == added | {
        "hint": None,
        "label": None,
        "check": None,
    }
    refused(enterprise.client.patch(path, json={"label": "x"}, headers=enterprise.admin), 403, "forbidden")
    assert enterprise.client.get(path, headers=uma).json() == added
    assert enterprise.client.delete(path, headers=enterprise.admin).status_code == 204


def test_a_team_key_is_managed_by_its_admins_and_seen_by_its_members(enterprise: Api, tokens: Any) -> None:
    lead = tokens.person("lea", enterprise.org, t="admin")
    member, outsider = tokens.person("mia", enterprise.org, t="member"), tokens.person("oli", enterprise.org, u="admin")
    refused(enterprise.add(member, "team", "t"), 403, "forbidden")
    refused(enterprise.add(outsider, "team", "t"), 403, "forbidden")
    added = enterprise.add(lead, "team", "t").json()
    path = f"/v1/credentials/{added['credential_id']}"
    assert enterprise.client.get(path, headers=member).json() == added
    assert enterprise.client.get("/v1/credentials", headers=member).json()["items"] == [added]
    refused(enterprise.client.delete(path, headers=member), 403, "forbidden")
    refused(enterprise.client.get(path, headers=outsider), 404, "not_found")
    assert enterprise.client.delete(path, headers=enterprise.admin).status_code == 204


def test_an_organization_key_is_managed_by_admins_and_seen_by_members(enterprise: Api, tokens: Any) -> None:
    member = tokens.person("mia", enterprise.org, t="admin")
    refused(enterprise.add(member, "organization", enterprise.org), 403, "forbidden")
    added = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    path = f"/v1/credentials/{added['credential_id']}"
    assert enterprise.client.get(path, headers=member).json() == added
    refused(enterprise.client.delete(path, headers=member), 403, "forbidden")
    runner = tokens.service("usage:write credentials:lease")
    refused(enterprise.client.get(path, headers=runner), 404, "not_found")


# Changing and ending


def test_the_label_can_be_changed(enterprise: Api) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    path = f"/v1/credentials/{added['credential_id']}"
    for label in ("new", None):
        changed = enterprise.client.patch(path, json={"label": label}, headers=enterprise.admin)
        assert changed.json() == added | {"label": label}
    names_field(enterprise.client.patch(path, json={"label": CANARY}, headers=enterprise.admin), "label")
    for nothing in ({}, {"enabled": None}):
        names_field(enterprise.client.patch(path, json=nothing, headers=enterprise.admin), "body")
    names_field(enterprise.client.patch(path, json={"label": "x", "hint": "y"}, headers=enterprise.admin), "body")


def test_a_revoked_key_ends_now_and_its_secret_is_destroyed(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    path = f"/v1/credentials/{added['credential_id']}"
    assert enterprise.client.delete(path, headers=enterprise.admin).status_code == 204
    ended = enterprise.client.get(path, headers=enterprise.admin).json()
    assert ended["status"] == "deleted"
    (interval,) = ended["active"]
    assert interval["from"] == added["active"][0]["from"] < interval["to"]
    (row,) = database.rows(
        "SELECT num_nonnulls(wrapped_key, wrap_nonce, ciphertext, nonce), destroyed_at IS NOT NULL, kek_id"
        " FROM registry.secret_version WHERE credential_id = %s",
        added["credential_id"],
    )
    assert row == (0, True, "kek-1")
    (before,) = database.rows("SELECT last_seq FROM registry.log_head")
    assert enterprise.client.delete(path, headers=enterprise.admin).status_code == 204
    assert database.rows("SELECT last_seq FROM registry.log_head") == [before]
    assert enterprise.add(enterprise.admin, "team", "t").status_code == 201


# Plans and backdating


def test_plans(api: Api, tokens: Any, database: Any) -> None:
    path = f"/v1/organizations/{api.org}/plan"
    assert api.client.get(path, headers=api.admin).json() == {"org_id": api.org, "plan": "free", "plans": []}
    refused(api.client.put(path, json={"plan": "pro"}, headers=api.admin), 403, "insufficient_scope")
    elsewhere = tokens.service("plans:write", "another-org")
    refused(api.client.put(path, json={"plan": "pro"}, headers=elsewhere), 403, "organization_forbidden")
    names_field(api.plan("gold"), "plan")
    first = api.plan("pro").json()
    (before,) = database.rows("SELECT last_seq FROM registry.log_head")
    assert api.plan("pro").json() == first
    assert database.rows("SELECT last_seq FROM registry.log_head") == [before]
    second = api.plan("enterprise").json()
    assert [(plan["plan"], plan["to"] is None) for plan in second["plans"]] == [("pro", False), ("enterprise", True)]
    assert second["plans"][0]["to"] == second["plans"][1]["from"]
    assert api.client.get(path, headers=api.admin).json() == second


def test_a_backdated_plan_holds_in_place_of_whatever_stood_after_it(api: Api) -> None:
    api.plan("pro", effective_from="2026-05-01T00:00:00Z")
    api.plan("free", effective_from="2026-06-01T00:00:00Z")
    body = api.plan("enterprise", effective_from="2026-05-15T12:00:00+02:00").json()
    assert body == {
        "org_id": api.org,
        "plan": "enterprise",
        "plans": [
            {"plan": "pro", "from": "2026-05-01T00:00:00Z", "to": "2026-05-15T10:00:00Z"},
            {"plan": "enterprise", "from": "2026-05-15T10:00:00Z", "to": None},
        ],
    }
    names_field(
        api.plan("pro", effective_from=(datetime.now(UTC) + timedelta(minutes=1)).isoformat()), "effective_from"
    )


def test_backdating_needs_its_scope(enterprise: Api, tokens: Any) -> None:
    plans = tokens.service("plans:write credentials:write")
    body = {"plan": "pro", "effective_from": "2026-05-01T00:00:00Z"}
    path = f"/v1/organizations/{enterprise.org}/plan"
    refused(enterprise.client.put(path, json=body, headers=plans), 403, "insufficient_scope")
    response = enterprise.add(enterprise.admin, "team", "t", effective_from="2026-05-01T00:00:00Z")
    refused(response, 403, "insufficient_scope")


def test_a_backdated_key_must_not_overlap_another(enterprise: Api) -> None:
    def add(start: str) -> Response:
        return enterprise.add(enterprise.platform, "team", "t", org_id=enterprise.org, effective_from=start)

    first = add("2026-05-01T00:00:00Z")
    assert first.json()["active"] == [{"from": "2026-05-01T00:00:00Z", "to": None}]
    path = f"/v1/credentials/{first.json()['credential_id']}"
    enterprise.client.delete(path, headers=enterprise.platform)
    ended = enterprise.client.get(path, headers=enterprise.platform).json()["active"][0]["to"]
    refused(add("2026-05-02T00:00:00Z"), 409, "credential_overlap")
    refused(add("2026-04-30T00:00:00Z"), 409, "credential_overlap")
    assert add(ended).status_code == 201


# Which key applies


def test_resolution_follows_the_levels(api: Api, tokens: Any) -> None:
    def why(**more: Any) -> tuple[str, str, str | None]:
        body = api.ask("resolve", **more).json()
        assert (body["scope"] is None) == (body["credential_id"] is None)
        return body["source"], body["reason"], body["credential_id"]

    assert why() == ("platform", "plan_not_entitled", None)
    assert why(provider="mistral") == ("platform", "provider_not_supported", None)
    api.plan("pro")
    assert why() == ("platform", "no_credential", None)
    personal = api.add(tokens.person("uma", api.org), "personal", "uma").json()["credential_id"]
    assert why(team_id="t") == ("byok", "personal_key", personal)
    team = api.add(api.admin, "team", "t").json()["credential_id"]
    assert why(team_id="t") == ("byok", "team_key", team)
    assert why(team_id=None) == ("byok", "personal_key", personal)
    between = datetime.now(UTC).isoformat()
    api.plan("enterprise")
    organization = api.add(api.admin, "organization", api.org).json()["credential_id"]
    assert why(team_id="t") == ("byok", "organization_key", organization)
    assert why(team_id="t", at=between) == ("byok", "team_key", team)
    assert why(at="2020-01-01T00:00:00Z") == ("platform", "plan_not_entitled", None)


def test_who_may_ask_which_key_applies(enterprise: Api, tokens: Any) -> None:
    def ask(who: dict[str, str], user: str, team: str | None = None) -> Response:
        body = {"user_id": user, "team_id": team, "provider": "openai"}
        return enterprise.client.post("/v1/resolve", json=body, headers=who)

    uma = tokens.person("uma", enterprise.org, t="member")
    assert ask(uma, "uma").status_code == 200
    assert ask(uma, "uma", "t").status_code == 200
    refused(ask(uma, "uma", "other"), 403, "forbidden")
    refused(ask(uma, "bob"), 403, "forbidden")
    assert ask(enterprise.admin, "bob", "t").status_code == 200
    for scope in ("credentials:write", "credentials:lease", "ledger:read", "usage:write"):
        assert ask(tokens.service(scope, enterprise.org), "bob").status_code == 200
    refused(ask(tokens.service("plans:write", enterprise.org), "bob"), 403, "forbidden")


def test_a_lease_hands_out_the_secret_for_five_minutes(enterprise: Api, tokens: Any) -> None:
    added = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    response = enterprise.ask("lease")
    body = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert (body["source"], body["secret"], body["reason"]) == ("byok", CANARY, "organization_key")
    assert (body["credential_id"], body["scope"], body["provider"]) == (
        added["credential_id"],
        added["scope"],
        "openai",
    )
    assert body["ttl_seconds"] == 300
    life = datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["at"])
    assert life == timedelta(seconds=300)
    ask = {"org_id": enterprise.org, "user_id": "uma", "provider": "openai"}
    for who in (enterprise.admin, tokens.service("credentials:write")):
        refused(enterprise.client.post("/v1/lease", json=ask, headers=who), 403, "insufficient_scope")
    names_field(enterprise.ask("lease", at="2026-05-01T00:00:00Z"), "body")


@pytest.mark.parametrize("pasted", [f"{CANARY}\n", f"\t {CANARY}\r\n"])
def test_what_a_copied_key_has_around_it_is_no_part_of_it(enterprise: Api, pasted: str) -> None:
    added = enterprise.add(enterprise.platform, "team", "t", org_id=enterprise.org, api_key=pasted)
    assert (added.status_code, added.json()["hint"]) == (201, f"…{CANARY[-4:]}")
    leased = enterprise.ask("lease", team_id="t")
    assert leased.json()["secret"] == CANARY


def test_a_lease_without_a_key_of_ones_own(enterprise: Api) -> None:
    body = enterprise.ask("lease").json()
    assert (body["source"], body["reason"], body["secret"], body["credential_id"]) == (
        "platform",
        "no_credential",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("kek_id = 'lost'", "credential_unusable"),
        ("ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)", "credential_unusable"),
        ("wrapped_key = set_byte(wrapped_key, 0, get_byte(wrapped_key, 0) # 1)", "credential_unusable"),
        (
            "wrapped_key = NULL, wrap_nonce = NULL, ciphertext = NULL, nonce = NULL, destroyed_at = now()",
            "credential_lost",
        ),
    ],
)
def test_an_unusable_key_is_never_taken_for_no_key(enterprise: Api, database: Any, damage: str, code: str) -> None:
    added = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    change = f"UPDATE registry.secret_version SET {damage} WHERE credential_id = %s RETURNING 1"
    database.rows(change, added["credential_id"])
    failed = leases(enterprise, "failed")
    refused(enterprise.ask("lease"), 503, code)
    assert leases(enterprise, "failed") == failed + 1
    assert enterprise.ask("resolve").json()["credential_id"] == added["credential_id"]


def test_a_secret_copied_to_another_row_does_not_decrypt(enterprise: Api, database: Any) -> None:
    mine = enterprise.add(enterprise.admin, "team", "t").json()["credential_id"]
    other = enterprise.add(enterprise.admin, "team", "u", key="sk-another-key-of-another-team").json()["credential_id"]
    database.rows(
        "UPDATE registry.secret_version a SET (wrapped_key, wrap_nonce, ciphertext, nonce) ="
        " (b.wrapped_key, b.wrap_nonce, b.ciphertext, b.nonce) FROM registry.secret_version b"
        " WHERE a.credential_id = %s AND b.credential_id = %s RETURNING 1",
        mine,
        other,
    )
    refused(enterprise.ask("lease", team_id="t"), 503, "credential_unusable")
    assert enterprise.ask("lease", team_id="u").json()["secret"] == "sk-another-key-of-another-team"


def leases(api: Api, outcome: str) -> float:
    """How many leases were timed with this outcome."""
    page = text_string_to_metric_families(api.client.get("/metrics").text)
    found = [each for family in page for each in family.samples if each.name == "byok_lease_seconds_count"]
    return sum(each.value for each in found if each.labels == {"outcome": outcome})


def test_leases_are_timed_by_what_came_of_them(enterprise: Api, tokens: Any) -> None:
    outcomes = ("platform", "own_key", "refused")
    before = [leases(enterprise, outcome) for outcome in outcomes]
    enterprise.ask("lease")
    enterprise.add(enterprise.admin, "organization", enterprise.org)
    enterprise.ask("lease")
    ask = {"org_id": enterprise.org, "user_id": "uma", "provider": "openai"}
    enterprise.client.post("/v1/lease", json=ask, headers=enterprise.admin)
    assert [leases(enterprise, outcome) for outcome in outcomes] == [number + 1 for number in before]


# Lists


def test_lists_have_pages_and_filters(enterprise: Api) -> None:
    added = [
        enterprise.add(enterprise.admin, "team", f"t{number}", provider).json()
        for number in range(3)
        for provider in ("openai", "google")
    ]
    gone = added.pop(2)
    enterprise.client.delete(f"/v1/credentials/{gone['credential_id']}", headers=enterprise.admin)

    def page(**query: object) -> dict[str, Any]:
        response = enterprise.client.get("/v1/credentials", params=query, headers=enterprise.admin)
        assert response.status_code == 200
        body: dict[str, Any] = response.json()
        return body

    found, cursor, pages = [], None, 0
    while cursor or not pages:
        query = {"limit": 2, "status": "active"} | ({"cursor": cursor} if cursor else {})
        body = page(**query)
        assert len(body["items"]) <= 2
        found += body["items"]
        cursor, pages = body["next_cursor"], pages + 1
    assert found == added
    assert [item["credential_id"] for item in page(status="deleted")["items"]] == [gone["credential_id"]]
    assert {item["scope"]["id"] for item in page(provider="google")["items"]} == {"t0", "t1", "t2"}
    assert len(page(scope_type="team", scope_id="t0")["items"]) == 2
    assert page(scope_type="personal")["items"] == []
    for odd in ("limit=0", "limit=201", "cursor=%00", "cursor=!!", "scope_id=%00", "status=odd"):
        response = enterprise.client.get(f"/v1/credentials?{odd}", headers=enterprise.admin)
        names_field(response, odd.split("=")[0])


def test_providers(client: TestClient, tokens: Any) -> None:
    body = client.get("/v1/providers", headers=tokens.person("uma", "any")).json()
    assert body["providers"] == ["anthropic", "deepseek", "fireworks", "google", "openai", "xai"]
    assert body["verifiable"] == body["providers"]


def test_ids_with_control_characters_are_refused_everywhere(enterprise: Api) -> None:
    for path in ("/v1/credentials/%00", "/v1/organizations/%00/plan"):
        response = enterprise.client.get(path, headers=enterprise.platform)
        assert response.status_code == 422
    assert enterprise.client.get("/v1/credentials/unknown", headers=enterprise.platform).status_code == 404


def test_metrics_come_from_the_database(enterprise: Api, database: Any) -> None:
    enterprise.add(enterprise.admin, "organization", enterprise.org)
    page = enterprise.client.get("/metrics").text
    for name in ("byok_outbox_pending", "byok_outbox_oldest_seconds"):
        assert f'{name}{{outbox="registry-changes"}}' in page
    assert 'byok_registry_seq{service="key_registry"}' in page
    assert 'byok_active_credentials{provider="openai",scope="organization"}' in page
    assert enterprise.org not in page


def test_the_api_describes_itself(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "/v1/organizations/{org_id}/plan" in document["paths"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refusals = [answer for status, answer in operation["responses"].items() if status[0] in "45"]
            assert all("application/problem+json" in answer["content"] for answer in refusals), path


def test_an_outage_of_the_database_is_told_as_one(
    kek_file: Any, database: Any, tokens: Any, settings_for: Any, registry: Any
) -> None:
    engine = open_engine(f"postgresql://x:y@127.0.0.1:{free_port()}/registry")
    away = Registry(sessions_on(engine), registry.keyring)
    tokens_of, metrics = TokenVerifier(settings_for(database)), registry_metrics(away.sessions)
    app = registry_app(away, tokens_of, metrics, {}, UNLIMITED, BODIES)
    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/v1/providers", headers=tokens.person("uma", "acme"))
    refused(response, 503, "database_unavailable")
    assert response.headers["retry-after"]
    # Metrics of an outage are absent, never stale.
    assert "byok_registry_seq{" not in client.get("/metrics").text


def test_whoever_waits_too_long_for_the_log_is_told_to_try_again(enterprise: Api, database: Any) -> None:
    with psycopg.connect(database.admin_dsn) as holder:
        holder.execute("SELECT 1 FROM registry.log_head FOR UPDATE")
        refused(enterprise.add(enterprise.admin, "team", "t"), 503, "database_unavailable")
    assert enterprise.add(enterprise.admin, "team", "t").status_code == 201
