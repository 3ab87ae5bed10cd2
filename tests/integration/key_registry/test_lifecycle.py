"""The life of a credential: switched off and on, shadowed, deleted; what the log, prices and leases see of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from httpx import Response

from services.key_registry.handlers.changes import INTERVALS_MAX
from tests.integration.key_registry.registry_caller import (
    CANARY,
    Api,
    messages,
    names_field,
    patch,
    path_of,
    refused,
    shown,
    shown_tag,
    status,
)


def test_a_key_that_is_switched_off_is_kept_and_not_used(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    off = patch(enterprise, added, enabled=False)
    assert off.status_code == 200
    assert (off.json()["status"], off.json()["shadowed_by"]) == ("disabled", None)
    (interval,) = off.json()["active"]
    assert interval["from"] == added["active"][0]["from"] < interval["to"]
    lease = enterprise.ask("lease", team_id="t").json()
    assert (lease["source"], lease["secret"]) == ("platform", None)
    assert enterprise.ask("resolve", team_id="t", at=interval["from"]).json()["credential_id"] == added["credential_id"]

    on = patch(enterprise, added, enabled=True).json()
    assert on["status"] == "active"
    assert on["active"][0] == interval
    assert on["active"][1]["to"] is None
    assert on["active"][1]["from"] > interval["to"]
    assert shown(enterprise, added) == on
    assert enterprise.ask("lease", team_id="t").json()["secret"] == CANARY
    # Every price follows from the log, so each step is in it, and the last message has the whole history.
    seen = messages(database, added)
    assert [len(message["active"]) for message in seen] == [1, 1, 2]
    assert seen[-1]["active"] == on["active"]


def test_saying_the_same_twice_changes_nothing(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t", label="a").json()
    for enabled in (True, False, False):
        first = patch(enterprise, added, enabled=enabled, label="a")
    assert len(messages(database, added)) == 2
    assert first.headers["etag"] == '"2"'


def test_an_edit_is_whole_or_not_at_all(enterprise: Api, tokens: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t", label="before").json()
    both = patch(enterprise, added, label="after", enabled=False).json()
    assert (both["label"], both["status"]) == ("after", "disabled")
    enterprise.add(enterprise.admin, "team", "t")
    refused(patch(enterprise, added, label="never", enabled=True), 409, "credential_exists")
    assert shown(enterprise, added) == both
    # An admin may switch a member's key off, but neither on nor name it; both at once is refused as a whole.
    mine = enterprise.add(tokens.person("uma", enterprise.org), "personal", "uma", label="mine").json()
    refused(patch(enterprise, mine, label="theirs", enabled=False), 403, "forbidden")
    assert shown(enterprise, mine) == mine
    for wrong in ({"enabled": "yes"}, {"enabled": 1}):
        names_field(patch(enterprise, added, **wrong), "enabled")


def test_switching_on_is_refused_as_an_addition_is(api: Api, tokens: Any) -> None:
    uma = tokens.person("uma", api.org)
    api.plan("pro")
    personal = api.add(uma, "personal", "uma").json()
    patch(api, personal, uma, enabled=False)
    api.plan("free")
    refused(patch(api, personal, uma, enabled=True), 403, "plan_not_entitled")
    api.plan("enterprise")
    organization = api.add(api.admin, "organization", api.org).json()
    refused(patch(api, personal, uma, enabled=True), 409, "organization_key_enforced")
    patch(api, organization, enabled=False)
    assert patch(api, personal, uma, enabled=True).json()["status"] == "active"
    assert patch(api, organization, enabled=True).json()["status"] == "active"
    assert status(api, personal) == ("shadowed", "organization_key")
    api.plan("pro")
    patch(api, organization, enabled=False)
    refused(patch(api, organization, enabled=True), 403, "plan_not_entitled")


def test_the_plan_moves_statuses_and_no_interval(api: Api, tokens: Any, database: Any) -> None:
    api.plan("enterprise")
    personal = api.add(tokens.person("uma", api.org), "personal", "uma").json()
    google = api.add(api.admin, "team", "t", provider="google").json()
    organization = api.add(api.admin, "organization", api.org).json()
    keys, no_plan, active = (personal, google, organization), ("shadowed", "plan_not_entitled"), ("active", None)
    expected = {
        "enterprise": [("shadowed", "organization_key"), active, active],
        "pro": [active, active, no_plan],
        "free": [no_plan, no_plan, no_plan],
    }
    for plan in ("enterprise", "pro", "free", "pro", "enterprise"):
        api.plan(plan)
        assert [status(api, key) for key in keys] == expected[plan], plan
        # Whoever asks which key applies is told the same.
        used = {api.ask("resolve", provider=p, team_id="t").json()["credential_id"] for p in ("openai", "google")}
        assert used - {None} == {
            key["credential_id"] for key, (s, _) in zip(keys, expected[plan], strict=True) if s == "active"
        }
    assert [len(messages(database, key)) for key in keys] == [1, 1, 1]
    patch(api, organization, enabled=False)
    assert status(api, personal) == active


def test_lists_by_status_are_what_each_credential_says(api: Api, tokens: Any) -> None:
    api.plan("enterprise")
    uma = tokens.person("uma", api.org)
    for provider in ("openai", "google", "anthropic"):
        api.add(uma, "personal", "uma", provider=provider)
    off, gone = (api.add(api.admin, "team", team, provider="google").json() for team in ("off", "gone"))
    patch(api, off, enabled=False)
    api.client.delete(path_of(gone), headers=api.admin)
    for provider in ("openai", "xai"):
        api.add(api.admin, "organization", api.org, provider=provider)

    def listed(**query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = api.client.get("/v1/credentials", params=query, headers=api.admin).json()["items"]
        return items

    for plan in ("enterprise", "pro", "free"):
        api.plan(plan)
        everything = listed()
        assert len(everything) == 7
        for wanted in ("active", "disabled", "shadowed", "deleted"):
            found = listed(status=wanted)
            assert found == [item for item in everything if item["status"] == wanted], (plan, wanted)
            assert found or (plan, wanted) == ("free", "active")


def test_a_deleted_key_stays_deleted(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    patch(enterprise, added, enabled=False)
    assert enterprise.client.delete(path_of(added), headers=enterprise.admin).status_code == 204
    for body in ({"enabled": True}, {"enabled": False}, {"label": "x"}):
        refused(patch(enterprise, added, **body), 409, "credential_deleted")
    assert status(enterprise, added) == ("deleted", None)
    left = "SELECT count(*) FROM registry.secret_version WHERE credential_id = %s AND ciphertext IS NOT NULL"
    assert database.rows(left, added["credential_id"]) == [(0,)]
    # The past is as it was.
    then = added["active"][0]["from"]
    assert enterprise.ask("resolve", team_id="t", at=then).json()["credential_id"] == added["credential_id"]


def test_a_history_that_is_full_can_still_end(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    patch(enterprise, added, enabled=False)
    fill = (
        "INSERT INTO registry.credential_interval (credential_id, slot_id, active_from, active_to)"
        " SELECT credential_id, slot_id, '2026-01-01'::timestamptz + n * interval '1 second',"
        "   '2026-01-01'::timestamptz + n * interval '1 second' + interval '1 microsecond'"
        " FROM registry.credential, generate_series(1, %s) n WHERE credential_id = %s RETURNING 1"
    )
    database.rows(fill, INTERVALS_MAX - 2, added["credential_id"])
    assert patch(enterprise, added, enabled=True).status_code == 200
    assert patch(enterprise, added, enabled=False).status_code == 200
    refused(patch(enterprise, added, enabled=True), 409, "history_too_long")
    assert enterprise.client.delete(path_of(added), headers=enterprise.admin).status_code == 204


# Changes at once


def test_a_change_to_what_another_admin_changed_is_refused(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t", label="first")
    path, seen = path_of(added.json()), added.headers["etag"]
    assert enterprise.client.get(path, headers=enterprise.admin).headers["etag"] == seen

    def attempt(tag: str, method: str, **body: object) -> Response:
        more: dict[str, Any] = {"json": body} if body else {}
        return enterprise.client.request(method, path, headers=enterprise.admin | {"If-Match": tag}, **more)

    second = attempt(seen, "PATCH", label="second")
    assert second.status_code == 200
    assert second.headers["etag"] != seen
    for method, body in (("PATCH", {"label": "third"}), ("PATCH", {"enabled": False}), ("DELETE", {})):
        refused(attempt(seen, method, **body), 412, "precondition_failed")
    names_field(attempt("unquoted", "PATCH", label="x"), "If-Match")
    assert shown(enterprise, added.json()) == second.json()
    assert attempt("*", "PATCH", label="third").status_code == 200
    assert attempt(f'"0", {shown_tag(enterprise, path)}', "DELETE").status_code == 204
    refused(attempt(seen, "DELETE"), 412, "precondition_failed")


def test_of_two_admins_who_saw_the_same_one_wins(enterprise: Api) -> None:
    added = enterprise.add(enterprise.admin, "team", "t")
    headers = enterprise.admin | {"If-Match": added.headers["etag"]}

    def relabel(name: str) -> int:
        return enterprise.client.patch(path_of(added.json()), json={"label": name}, headers=headers).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(relabel, "abcd")) == [200, 412, 412, 412]


def test_being_used_is_no_change(enterprise: Api) -> None:
    added = enterprise.add(enterprise.admin, "team", "t")
    enterprise.ask("lease", team_id="t")
    assert shown(enterprise, added.json())["last_used_at"] is not None
    assert shown_tag(enterprise, path_of(added.json())) == added.headers["etag"]


def test_plans_have_tags_too(api: Api) -> None:
    path = f"/v1/organizations/{api.org}/plan"
    none = api.client.get(path, headers=api.platform).headers["etag"]

    def put(plan: str, tag: str) -> Response:
        return api.client.put(path, json={"plan": plan}, headers=api.platform | {"If-Match": tag})

    pro = put("pro", none)
    assert pro.status_code == 200
    refused(put("free", none), 412, "precondition_failed")
    assert api.client.get(path, headers=api.platform).headers["etag"] == pro.headers["etag"] != none
    assert put("pro", pro.headers["etag"]).headers["etag"] == pro.headers["etag"]
    assert put("enterprise", pro.headers["etag"]).json()["plan"] == "enterprise"


# The last use


def test_the_last_use_is_known_to_the_minute(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    writes = "SELECT xmin::text FROM registry.credential WHERE credential_id = %s"
    assert shown(enterprise, added)["last_used_at"] is None
    enterprise.ask("resolve", team_id="t")
    assert shown(enterprise, added)["last_used_at"] is None
    enterprise.ask("lease", team_id="t")
    first, written = shown(enterprise, added)["last_used_at"], database.rows(writes, added["credential_id"])
    assert first > added["created_at"]
    for _ in range(3):
        enterprise.ask("lease", team_id="t")
    assert database.rows(writes, added["credential_id"]) == written
    age = "UPDATE registry.credential SET last_used_at = last_used_at - interval '61 s' WHERE credential_id = %s"
    database.rows(f"{age} RETURNING 1", added["credential_id"])
    enterprise.ask("lease", team_id="t")
    assert shown(enterprise, added)["last_used_at"] > first


def test_a_lease_waits_for_nobody_who_changes_the_key(enterprise: Api, database: Any) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    with psycopg.connect(database.admin_dsn) as holder:
        holder.execute(
            "SELECT 1 FROM registry.credential WHERE credential_id = %s FOR UPDATE", (added["credential_id"],)
        )
        assert enterprise.ask("lease", team_id="t").json()["secret"] == CANARY
    assert shown(enterprise, added)["last_used_at"] is None


@pytest.mark.parametrize("field", ["label", "hint", "last_used_at", "check", "health", "undo_until"])
def test_of_a_members_key_an_admin_knows_only_that_it_is_there(enterprise: Api, tokens: Any, field: str) -> None:
    uma = tokens.person("uma", enterprise.org)
    added = enterprise.add(uma, "personal", "uma", label="mine").json()
    enterprise.ask("lease")
    assert enterprise.client.get(path_of(added), headers=enterprise.admin).json()[field] is None


def test_switching_is_in_the_audit_log_and_what_a_label_says_is_not(enterprise: Api) -> None:
    added = enterprise.add(enterprise.admin, "team", "t").json()
    patch(enterprise, added, enabled=False, label="private")
    patch(enterprise, added, enabled=False)
    query = {"credential_id": added["credential_id"], "action": "credential.change"}
    rows = enterprise.client.get("/v1/audit", params=query, headers=enterprise.admin).json()["items"]
    assert [row["detail"] for row in rows] == [{"enabled": "false", "label": "set"}]
