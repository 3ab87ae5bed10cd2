"""Idempotency-Key: a request that is sent again is answered again, and carried out once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from httpx import Response

from services.key_registry.handlers.registry import Registry
from services.key_registry.sweeper import sweep
from tests.integration.key_registry.provider_server import GOOD, ProviderServer
from tests.integration.key_registry.registry_caller import CANARY, Api, names_field, patch, path_of, refused

OTHER = "another-made-up-key-5555"


def add(api: Api, key: str, team: str = "t", secret: str = CANARY, **more: Any) -> Response:
    return api.add(api.admin | {"Idempotency-Key": key}, "team", team, key=secret, **more)


def rotate(api: Api, credential: dict[str, Any], key: str, secret: str = GOOD, **headers: str) -> Response:
    sent = api.admin | {"Idempotency-Key": key} | headers
    return api.client.post(f"{path_of(credential)}/rotate", json={"api_key": secret}, headers=sent)


def count(database: Any, org: str) -> int:
    ((found,),) = database.rows("SELECT count(*) FROM registry.credential WHERE org_id = %s", org)
    return int(found)


def same(one: Response, other: Response) -> None:
    assert (one.status_code, one.json(), one.headers["etag"]) == (
        other.status_code,
        other.json(),
        other.headers["etag"],
    )


def test_an_addition_that_is_sent_again_gets_the_same_answer(enterprise: Api, database: Any) -> None:
    first = add(enterprise, "k1", label="a")
    again = add(enterprise, "k1", label="a")
    assert first.status_code == 201
    same(first, again)
    assert again.headers["location"] == first.headers["location"]
    # It is the answer of then, whatever became of the credential.
    patch(enterprise, first.json(), label="b")
    enterprise.client.delete(path_of(first.json()), headers=enterprise.admin)
    same(add(enterprise, "k1", label="a"), first)
    assert count(database, enterprise.org) == 1


@pytest.mark.parametrize("other", [{"secret": OTHER}, {"team": "u"}, {"label": "b"}, {"provider": "google"}])
def test_another_request_with_the_same_key_is_refused(enterprise: Api, database: Any, other: dict[str, Any]) -> None:
    credential = add(enterprise, "k1").json()
    refused(add(enterprise, "k1", **other), 422, "idempotency_key_reused")
    refused(rotate(enterprise, credential, "k1"), 422, "idempotency_key_reused")
    assert count(database, enterprise.org) == 1


def test_each_caller_has_keys_of_its_own(enterprise: Api, tokens: Any, database: Any) -> None:
    add(enterprise, "k1")
    lead = tokens.person("lea", enterprise.org, t="admin", u="admin")
    assert enterprise.add(lead | {"Idempotency-Key": "k1"}, "team", "u").status_code == 201
    elsewhere = tokens.person("ada", "another-org", "admin")
    refused(enterprise.add(elsewhere | {"Idempotency-Key": "k1"}, "team", "t"), 403, "plan_not_entitled")


def test_what_was_refused_may_be_tried_again(enterprise: Api) -> None:
    credential = enterprise.add(enterprise.admin, "team", "t").json()
    refused(add(enterprise, "k1"), 409, "credential_exists")
    enterprise.client.delete(path_of(credential), headers=enterprise.admin)
    assert add(enterprise, "k1").status_code == 201


def test_at_once_one_is_carried_out_and_all_get_its_answer(
    enterprise: Api, database: Any, providers: ProviderServer
) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: add(enterprise, "k1"), range(6)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["credential_id"] for answer in answers}) == 1
        credential = answers[0].json()
        rotated = list(pool.map(lambda _: rotate(enterprise, credential, "k2"), range(6)))
    for answer in rotated:
        same(answer, rotated[0])
    assert count(database, enterprise.org) == 1
    versions = "SELECT count(*) FROM registry.secret_version WHERE credential_id = %s"
    assert database.rows(versions, credential["credential_id"]) == [(2,)]


def test_a_rotation_that_is_sent_again_asks_and_rotates_nothing(
    enterprise: Api, providers: ProviderServer, database: Any
) -> None:
    added = enterprise.add(enterprise.admin, "team", "t")
    seen = {"If-Match": added.headers["etag"]}
    first = rotate(enterprise, added.json(), "k1", **seen)
    asked = len(providers.seen)
    # The condition held when it was carried out; that it does not hold any more is its own doing.
    same(rotate(enterprise, added.json(), "k1", **seen), first)
    assert len(providers.seen) == asked
    refused(rotate(enterprise, added.json(), "k1", OTHER), 422, "idempotency_key_reused")


def test_a_caller_who_may_no_more_is_told_nothing(enterprise: Api, tokens: Any) -> None:
    lead = tokens.person("lea", enterprise.org, t="admin") | {"Idempotency-Key": "k1"}
    assert enterprise.add(lead, "team", "t").status_code == 201
    member = tokens.person("lea", enterprise.org, t="member") | {"Idempotency-Key": "k1"}
    refused(enterprise.add(member, "team", "t"), 403, "forbidden")


def test_neither_the_key_nor_the_secret_is_stored(enterprise: Api, database: Any) -> None:
    add(enterprise, "a-key-that-may-be-a-secret", label="ours")
    ((fingerprint, dump),) = database.rows(
        "SELECT fingerprint, a::text FROM registry.idempotent_answer a WHERE answer ->> 'org_id' = %s", enterprise.org
    )
    assert fingerprint.startswith("kek-1:")
    for secret in (CANARY, "a-key-that-may-be-a-secret"):
        assert secret not in dump
    assert json.dumps(CANARY) not in dump


def test_answers_are_kept_for_a_day(enterprise: Api, database: Any, registry: Registry) -> None:
    first = add(enterprise, "k1").json()
    add(enterprise, "k2", team="u")
    age = "UPDATE registry.idempotent_answer SET answered_at = answered_at - %s::interval RETURNING 1"
    database.rows(age, "23 hours 59 minutes")
    assert sweep(registry.sessions).answers == 0
    assert add(enterprise, "k1").json() == first
    database.rows(age, "2 minutes")
    # Its time counts, not the sweep.
    refused(add(enterprise, "k1"), 409, "credential_exists")
    assert add(enterprise, "k2", team="v").status_code == 201
    assert sweep(registry.sessions).answers >= 1
    assert add(enterprise, "k2", team="v").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "é".encode().decode("latin-1")])
def test_what_is_no_idempotency_key(enterprise: Api, key: str) -> None:
    headers = enterprise.admin | {"Idempotency-Key": key.encode("latin-1")}
    names_field(enterprise.add(headers, "team", "t"), "idempotency-key")
