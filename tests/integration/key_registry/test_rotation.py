"""Rotating a key: checked first, reversible for a while, then destroyed; the credential and its prices stay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from httpx import Response

from services.key_registry.database import secrets as secret_rows
from services.key_registry.handlers.registry import Registry
from services.key_registry.sweeper import sweep
from tests.integration.key_registry.provider_server import BAD, GOOD, Answer, ProviderServer, documented, reply
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
)
from tests.patience import PATIENCE_SECONDS

_KEPT = (
    "SELECT version, num_nonnulls(wrapped_key, wrap_nonce, ciphertext, nonce), destroyed_at IS NULL"
    " FROM registry.secret_version WHERE credential_id = %s ORDER BY version"
)
DESTROYED, KEPT = (0, False), (4, True)


@pytest.fixture(autouse=True)
def as_documented(providers: ProviderServer) -> Iterator[None]:
    yield
    providers.answer = documented
    providers.seen.clear()


@pytest.fixture
def added(enterprise: Api, providers: ProviderServer) -> dict[str, Any]:
    body: dict[str, Any] = enterprise.add(enterprise.admin, "team", "t", label="ours").json()
    providers.seen.clear()
    return body


def rotate(api: Api, credential: dict[str, Any], key: str = GOOD, **headers: str) -> Response:
    return api.client.post(f"{path_of(credential)}/rotate", json={"api_key": key}, headers=api.admin | headers)


def undo(api: Api, credential: dict[str, Any], **headers: str) -> Response:
    return api.client.post(f"{path_of(credential)}/rotate/undo", headers=api.admin | headers)


def leased(api: Api) -> str | None:
    secret: str | None = api.ask("lease", team_id="t").json()["secret"]
    return secret


def kept(database: Any, credential: dict[str, Any]) -> list[tuple[int, bool]]:
    """Of each version: how many of its parts there are, and whether it says that it is there."""
    return [row[1:] for row in database.rows(_KEPT, credential["credential_id"])]


def test_the_new_key_is_used_and_the_credential_stays(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    response = rotate(enterprise, added)
    body = response.json()
    assert response.status_code == 200
    changed = {"hint": "…4321", "check": body["check"], "undo_until": body["undo_until"]}
    assert body == added | changed
    assert (body["check"]["result"], body["check"]["reason"]) == ("valid", "accepted")
    assert datetime.fromisoformat(body["undo_until"]) > datetime.fromisoformat(body["check"]["checked_at"])
    assert response.headers["etag"] != '"1"'
    assert GOOD not in response.text
    assert leased(enterprise) == GOOD
    assert kept(database, added) == [KEPT, KEPT]
    # The log shows the new hint, and no interval moved: a rotation moves no price.
    before, after = messages(database, added)
    assert after == before | {"seq": after["seq"], "changed_at": after["changed_at"], "hint": "…4321"}


def test_a_key_that_the_provider_refuses_is_not_rotated_in(
    enterprise: Api, added: dict[str, Any], database: Any
) -> None:
    response = rotate(enterprise, added, BAD)
    body = refused(response, 422, "key_invalid")
    assert body["errors"][0]["field"] == "api_key"
    assert BAD not in response.text
    assert shown(enterprise, added) == added
    assert leased(enterprise) == CANARY
    assert kept(database, added) == [KEPT]


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "forbidden"), (429, "rate_limited"), (503, "provider_error"), (302, "redirected")]
)
def test_whoever_cannot_be_asked_holds_up_no_rotation(
    enterprise: Api, added: dict[str, Any], providers: ProviderServer, status: int, reason: str
) -> None:
    providers.answer = reply(status)
    check = rotate(enterprise, added).json()["check"]
    assert (check["result"], check["reason"]) == ("unknown", reason)
    assert leased(enterprise) == GOOD


def test_the_key_before_can_be_brought_back(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    refused(undo(enterprise, added), 409, "nothing_to_undo")
    rotate(enterprise, added)
    restored = undo(enterprise, added)
    assert restored.status_code == 200
    assert restored.json() == added
    assert leased(enterprise) == CANARY
    # The key that was a mistake is gone, so there is no undoing of the undoing.
    assert kept(database, added) == [KEPT, DESTROYED]
    refused(undo(enterprise, added), 409, "nothing_to_undo")
    assert [message["hint"] for message in messages(database, added)] == ["…1234", "…4321", "…1234"]
    # Its number is not used again.
    rotate(enterprise, added)
    assert kept(database, added) == [KEPT, DESTROYED, KEPT]


def test_only_the_key_just_before_is_kept(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    rotate(enterprise, added)
    rotate(enterprise, added, "another-made-up-key-5555")
    assert kept(database, added) == [DESTROYED, KEPT, KEPT]
    assert undo(enterprise, added).json()["hint"] == "…4321"
    assert leased(enterprise) == GOOD


def test_the_same_key_again_is_no_rotation(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    rotate(enterprise, added)
    refused(rotate(enterprise, added), 409, "key_unchanged")
    # Above all, the key before is still there.
    assert kept(database, added) == [KEPT, KEPT]
    assert undo(enterprise, added).json()["hint"] == "…1234"


def age(database: Any, credential: dict[str, Any]) -> None:
    """As if the time in which one can go back were over."""
    statement = (
        "UPDATE registry.secret_version SET restorable_until = clock_timestamp()"
        " WHERE credential_id = %s AND restorable_until IS NOT NULL RETURNING 1"
    )
    assert database.rows(statement, credential["credential_id"]) == [(1,)]


def test_after_its_time_the_key_before_is_gone(
    enterprise: Api, added: dict[str, Any], database: Any, registry: Registry
) -> None:
    rotate(enterprise, added)
    sweep(registry.sessions)
    assert kept(database, added) == [KEPT, KEPT]
    age(database, added)
    # Its time counts, not the sweep.
    assert shown(enterprise, added)["undo_until"] is None
    refused(undo(enterprise, added), 409, "nothing_to_undo")
    assert sweep(registry.sessions).secrets >= 1
    assert kept(database, added) == [DESTROYED, KEPT]
    assert sweep(registry.sessions).secrets == 0
    assert leased(enterprise) == GOOD


def test_without_time_to_go_back_the_key_before_is_destroyed_at_once(
    enterprise: Api, added: dict[str, Any], database: Any, registry: Registry
) -> None:
    app = enterprise.client.app
    assert isinstance(app, FastAPI)
    app.state.registry = replace(registry, rotation_undo=timedelta(0))
    try:
        assert rotate(enterprise, added).json()["undo_until"] is None
    finally:
        app.state.registry = registry
    assert kept(database, added) == [DESTROYED, KEPT]


def test_deleting_destroys_both_keys(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    rotate(enterprise, added)
    assert enterprise.client.delete(path_of(added), headers=enterprise.admin).status_code == 204
    assert kept(database, added) == [DESTROYED, DESTROYED]
    assert (shown(enterprise, added)["check"], shown(enterprise, added)["undo_until"]) == (None, None)
    for response in (rotate(enterprise, added), undo(enterprise, added), verify(enterprise, added)):
        refused(response, 409, "credential_deleted")


def test_a_key_that_is_switched_off_can_be_rotated(enterprise: Api, added: dict[str, Any]) -> None:
    patch(enterprise, added, enabled=False)
    assert rotate(enterprise, added).json()["status"] == "disabled"
    patch(enterprise, added, enabled=True)
    assert leased(enterprise) == GOOD


def test_a_key_that_is_lost_can_be_replaced(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    spoil = "UPDATE registry.secret_version SET kek_id = 'lost' WHERE credential_id = %s RETURNING 1"
    database.rows(spoil, added["credential_id"])
    refused(enterprise.ask("lease", team_id="t"), 503, "credential_unusable")
    refused(verify(enterprise, added), 503, "credential_unusable")
    assert rotate(enterprise, added).status_code == 200
    assert leased(enterprise) == GOOD
    # One cannot go back to what cannot be read, and what is in use is not given up for it.
    refused(undo(enterprise, added), 503, "credential_unusable")
    assert leased(enterprise) == GOOD


@pytest.mark.parametrize("body", [{}, {"api_key": "short"}, {"api_key": f"{GOOD} {GOOD}"}, {"api_key": [GOOD]}])
def test_a_key_must_look_like_one(enterprise: Api, added: dict[str, Any], body: dict[str, Any]) -> None:
    response = enterprise.client.post(f"{path_of(added)}/rotate", json=body, headers=enterprise.admin)
    names_field(response, "api_key")
    assert GOOD not in response.text


def test_a_rotation_of_what_another_admin_rotated_is_refused(enterprise: Api, added: dict[str, Any]) -> None:
    seen = {"If-Match": shown_tag(enterprise, path_of(added))}
    assert rotate(enterprise, added, **seen).status_code == 200
    refused(rotate(enterprise, added, "another-made-up-key-5555", **seen), 412, "precondition_failed")
    refused(undo(enterprise, added, **seen), 412, "precondition_failed")
    assert leased(enterprise) == GOOD


def test_the_change_of_another_while_the_provider_is_asked_counts(
    enterprise: Api, added: dict[str, Any], providers: ProviderServer
) -> None:
    seen = {"If-Match": shown_tag(enterprise, path_of(added))}
    providers.answer = while_asked(lambda: patch(enterprise, added, label="meanwhile"))
    refused(rotate(enterprise, added, **seen), 412, "precondition_failed")
    providers.answer = while_asked(lambda: enterprise.client.delete(path_of(added), headers=enterprise.admin))
    refused(rotate(enterprise, added), 409, "credential_deleted")


def while_asked(act: Any) -> Any:
    def answer(request: BaseHTTPRequestHandler) -> None:
        act()
        documented(request)

    return answer


def test_nothing_is_locked_while_the_provider_is_waited_for(
    enterprise: Api, added: dict[str, Any], providers: ProviderServer, database: Any
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(PATIENCE_SECONDS)
        documented(request)

    providers.answer = hang
    for act in (lambda: rotate(enterprise, added), lambda: verify(enterprise, added)):
        asked.clear()
        go_on.clear()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(act)
            assert asked.wait(PATIENCE_SECONDS)
            try:
                with psycopg.connect(database.admin_dsn) as other:
                    other.execute("SELECT 1 FROM registry.log_head FOR UPDATE NOWAIT")
                    other.execute("SELECT 1 FROM registry.credential FOR UPDATE NOWAIT")
                    other.execute("SELECT 1 FROM registry.secret_version FOR UPDATE NOWAIT")
                open_transactions = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND usename = 'registry_service' AND xact_start IS NOT NULL"
                )
                assert database.rows(open_transactions) == [(0,)]
            finally:
                go_on.set()
            assert waiting.result().status_code == 200


# Verifying what is stored


def verify(api: Api, credential: dict[str, Any]) -> Response:
    return api.client.post(f"{path_of(credential)}/verify", headers=api.admin)


def test_what_the_provider_says_is_kept(
    enterprise: Api, added: dict[str, Any], providers: ProviderServer, database: Any
) -> None:
    for answer, expected in (
        (documented, ("valid", "accepted")),
        (reply(401), ("invalid", "rejected")),
        (reply(500), ("unknown", "provider_error")),
    ):
        providers.answer = answer
        response = verify(enterprise, added)
        body = response.json()
        assert (response.status_code, body["result"], body["reason"]) == (200, *expected)
        assert shown(enterprise, added)["check"] | {"credential_id": added["credential_id"]} == body
        assert CANARY not in response.text
    # A key that the provider refuses is told as such, and still the customer's to use.
    assert leased(enterprise) == CANARY
    assert len(messages(database, added)) == 1
    assert [seen.headers["authorization"] for seen in providers.seen] == [f"Bearer {CANARY}"] * 3


@pytest.mark.parametrize(
    ("answer", "result", "reason"),
    [(documented, "valid", "accepted"), (reply(401), "invalid", "rejected"), (reply(500), "unknown", "provider_error")],
)
def test_adding_a_key_says_what_its_provider_thinks_and_adds_it(
    enterprise: Api, providers: ProviderServer, answer: Answer, result: str, reason: str
) -> None:
    providers.answer = answer
    response = enterprise.add(enterprise.admin, "team", "t")
    body = response.json()
    assert (response.status_code, body["status"]) == (201, "active")
    assert body["check"] == {"result": result, "reason": reason, "checked_at": body["created_at"]}
    row = enterprise.client.get("/v1/audit", headers=enterprise.admin).json()["items"][0]
    assert (row["action"], row["detail"]) == ("credential.add", {"result": result, "reason": reason})
    assert shown(enterprise, body) == body
    assert leased(enterprise) == CANARY
    (seen,) = providers.seen
    assert seen.headers["authorization"] == f"Bearer {CANARY}"


def test_no_provider_is_asked_about_a_key_that_is_refused_or_of_the_past(
    enterprise: Api, providers: ProviderServer
) -> None:
    first = enterprise.add(
        enterprise.platform, "team", "t", org_id=enterprise.org, effective_from=datetime.now(UTC).isoformat()
    )
    assert (first.status_code, first.json()["check"]) == (201, None)
    refused(enterprise.add(enterprise.admin, "team", "t"), 409, "credential_exists")
    refused(enterprise.add(enterprise.admin, "team", "t", provider="acme"), 422, "provider_not_supported")
    assert providers.seen == []


def test_each_key_has_its_own_last_check(enterprise: Api, added: dict[str, Any], providers: ProviderServer) -> None:
    verify(enterprise, added)
    first = shown(enterprise, added)["check"]
    providers.answer = reply(429)
    assert rotate(enterprise, added).json()["check"]["reason"] == "rate_limited"
    assert undo(enterprise, added).json()["check"] == first


def test_a_check_says_nothing_of_the_key_that_was_rotated_in_meanwhile(
    enterprise: Api, added: dict[str, Any], providers: ProviderServer
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        providers.answer = documented
        rotate(enterprise, added)
        reply(401)(request)

    providers.answer = answer
    assert verify(enterprise, added).json()["result"] == "invalid"
    assert shown(enterprise, added)["check"]["result"] == "valid"


def test_who_is_known_by_the_log_of_what_was_asked(enterprise: Api, added: dict[str, Any]) -> None:
    rotate(enterprise, added)
    verify(enterprise, added)
    undo(enterprise, added)
    rotate(enterprise, added, BAD)
    query = {"credential_id": added["credential_id"]}
    rows = enterprise.client.get("/v1/audit", params=query, headers=enterprise.admin).json()["items"]
    assert [(row["action"], row["code"], row["hint"]) for row in rows[:4]] == [
        ("credential.rotate", "key_invalid", None),
        ("credential.undo_rotation", None, "…1234"),
        ("credential.verify", None, "…4321"),
        ("credential.rotate", None, "…4321"),
    ]
    assert rows[2]["detail"] == rows[3]["detail"] == {"result": "valid", "reason": "accepted"}


def test_the_database_keeps_one_current_key(enterprise: Api, added: dict[str, Any], database: Any) -> None:
    rotate(enterprise, added)
    two = "UPDATE registry.secret_version SET restorable_until = NULL WHERE credential_id = %s RETURNING 1"
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.rows(two, added["credential_id"])


def test_a_destroyed_key_is_nowhere(enterprise: Api, added: dict[str, Any], database: Any, registry: Registry) -> None:
    with registry.sessions.begin() as session:
        stored = secret_rows.current_secret(session, added["credential_id"])
    assert stored is not None
    rotate(enterprise, added)
    age(database, added)
    sweep(registry.sessions)
    dump = str(database.rows("SELECT v::text FROM registry.secret_version v"))
    for part in (stored.sealed.ciphertext, stored.sealed.wrapped_key):
        assert part.hex() not in dump


def test_a_sweep_takes_no_key_that_is_being_brought_back(
    enterprise: Api, added: dict[str, Any], database: Any, registry: Registry
) -> None:
    rotate(enterprise, added)
    before = datetime.fromisoformat(added["created_at"])
    age(database, added)
    with registry.sessions.begin() as session:
        # As if its time had run out just after the undoing had looked.
        assert secret_rows.previous_secret(session, added["credential_id"], before) is not None
        assert sweep(registry.sessions).secrets == 0
        secret_rows.restore_previous(session, added["credential_id"], before)
    assert kept(database, added) == [KEPT, DESTROYED]


def test_the_key_in_use_is_not_given_up_for_none(
    enterprise: Api, added: dict[str, Any], database: Any, registry: Registry
) -> None:
    with pytest.raises(LookupError), registry.sessions.begin() as session:
        secret_rows.restore_previous(session, added["credential_id"], datetime.fromisoformat(added["created_at"]))
    assert kept(database, added) == [KEPT]
    assert leased(enterprise) == CANARY
