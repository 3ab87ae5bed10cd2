"""The audit log against a real PostgreSQL: what is written, with what, for whom to read, and that nothing gets lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient

from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import registry_app
from services.key_registry.audit.chain import BrokenChain
from services.key_registry.audit.verify import Verified, verify_audit
from services.key_registry.handlers.registry import Registry
from services.key_registry.metrics import registry_metrics
from services.runtime.rate_limit import RateLimit
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import BODIES, Database, served
from tests.patience import PATIENCE_SECONDS
from tests.typed import typed

KEY = "sk-ant-api03-audit-audit-audit-5678"
EVERY_SCOPE = "credentials:write credentials:lease plans:write registry:backdate"


class Acme:
    """An organization on enterprise, and those who work with its keys."""

    def __init__(self, client: httpx.Client, tokens: Any, org: str) -> None:
        self.client, self.tokens, self.org = client, tokens, org
        self.platform = tokens.service(EVERY_SCOPE)
        self.admin = tokens.person("ada", org, "admin")
        self.uma = tokens.person("uma", org)
        self.plan("enterprise")

    def plan(self, plan: str, **headers: str) -> httpx.Response:
        path = f"/v1/organizations/{self.org}/plan"
        return self.client.put(path, json={"plan": plan}, headers=self.platform | headers)

    def add(self, who: dict[str, str], level: str = "team", owner: str = "t", **more: object) -> httpx.Response:
        body = {"scope": {"type": level, "id": owner}, "provider": "openai", "api_key": KEY, **more}
        return self.client.post("/v1/credentials", json=body, headers=who)

    def lease(self, user: str = "uma", team: str | None = "t", **headers: str) -> httpx.Response:
        body = {"org_id": self.org, "user_id": user, "team_id": team, "provider": "openai"}
        return self.client.post("/v1/lease", json=body, headers=self.platform | headers)

    def audit(self, who: dict[str, str] | None = None, **query: Any) -> list[dict[str, Any]]:
        """What the organization's admin, or another, reads; the newest first."""
        answer = self.client.get("/v1/audit", params=query, headers=who or self.admin).raise_for_status()
        assert KEY not in answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest.fixture
def acme(client: TestClient, tokens: Any, org: str) -> Acme:
    return Acme(client, tokens, org)


def verified(database: Database, kept: bytes | None = None) -> Verified:
    with psycopg.connect(database.dsn) as connection:
        return verify_audit(connection, kept)


def test_each_act_is_written_with_who_what_where_and_why(acme: Acme) -> None:
    why = {"X-Request-ID": "req-7", "X-Reason": "ticket 12"}
    added = acme.add(acme.admin | why, label="main").json()
    path = f"/v1/credentials/{added['credential_id']}"
    acme.client.patch(path, json={"label": "new"}, headers=acme.admin)
    leased = acme.lease().json()
    acme.client.delete(path, headers=acme.admin)
    rows = acme.audit()
    assert [row["action"] for row in rows] == [
        "credential.revoke",
        "key.lease",
        "credential.change",
        "credential.add",
        "plan.set",
    ]
    assert [row["seq"] for row in rows] == list(range(rows[0]["seq"], rows[0]["seq"] - 5, -1))
    for row in rows[:4]:
        assert (row["credential_id"], row["scope"], row["provider"], row["hint"], row["org_id"]) == (
            added["credential_id"],
            {"type": "team", "id": "t"},
            "openai",
            "…5678",
            acme.org,
        )
        assert (row["outcome"], row["code"], row["omitted"], row["client_address"]) == ("done", None, 0, "203.0.113.9")
    add, lease, plan = rows[3], rows[1], rows[4]
    assert (add["actor"], add["actor_org"], add["request_id"], add["reason"]) == ("ada", acme.org, "req-7", "ticket 12")
    assert (lease["actor"], lease["actor_org"]) == ("some-service", "*")
    assert lease["detail"] == {"user_id": "uma", "team_id": "t", "reason": "team_key"}
    assert datetime.fromisoformat(leased["at"]) <= datetime.fromisoformat(lease["occurred_at"])
    assert plan["detail"] == {"plan": "enterprise"}


def test_a_lease_of_the_platforms_key_is_written_too(acme: Acme) -> None:
    assert acme.lease(team=None).json()["secret"] is None
    (row,) = acme.audit(action="key.lease")
    assert (row["credential_id"], row["hint"], row["detail"]["reason"]) == (None, None, "no_credential")


def test_what_changes_nothing_writes_nothing(acme: Acme) -> None:
    path = f"/v1/credentials/{acme.add(acme.admin).json()['credential_id']}"
    for _ in range(2):
        acme.client.delete(path, headers=acme.admin)
        acme.plan("enterprise")
    assert [row["action"] for row in acme.audit()] == ["credential.revoke", "credential.add", "plan.set"]


def test_refusals_are_written_where_the_caller_belongs(acme: Acme, tokens: Any) -> None:
    added = acme.add(acme.admin).json()
    path = f"/v1/credentials/{added['credential_id']}"
    stranger = tokens.person("eve", f"{acme.org}-other", "admin")
    assert acme.client.get(path, headers=stranger).status_code == 404
    assert acme.add(stranger, org_id=acme.org).status_code == 403
    assert acme.add(acme.uma).status_code == 403
    assert acme.add(acme.admin).status_code == 409
    assert acme.client.get("/v1/audit", headers=acme.uma).status_code == 403
    assert acme.add(acme.admin, provider="mistral", owner="u").status_code == 422
    ours = [(row["actor"], row["action"], row["code"]) for row in acme.audit(outcome="refused")]
    assert ours == [
        ("uma", "audit.read", "forbidden"),
        ("ada", "credential.add", "credential_exists"),
        ("uma", "credential.add", "forbidden"),
    ]
    theirs = acme.audit(stranger)
    assert [(row["org_id"], row["code"]) for row in theirs] == [
        (f"{acme.org}-other", "organization_forbidden"),
        (f"{acme.org}-other", "not_found"),
    ]
    assert theirs[1]["credential_id"] == added["credential_id"]


def test_a_key_that_cannot_be_opened_is_a_refusal_with_its_reason(acme: Acme, database: Database) -> None:
    added = acme.add(acme.admin).json()
    change = "UPDATE registry.secret_version SET kek_id = 'lost' WHERE credential_id = %s RETURNING 1"
    database.rows(change, added["credential_id"])
    assert acme.lease().json()["code"] == "credential_unusable"
    (row,) = acme.audit(acme.platform, action="key.lease", org_id=acme.org)
    assert (row["outcome"], row["code"]) == ("refused", "credential_unusable")


def test_a_flood_of_refusals_is_counted_and_not_written(acme: Acme, database: Database, tokens: Any) -> None:
    mallory = tokens.person("mallory", acme.org)
    for _ in range(70):
        assert acme.add(mallory).status_code == 403
    (found,) = database.rows(
        "SELECT count(*), sum(omitted) FROM registry.audit WHERE actor = 'mallory' AND org_id = %s", acme.org
    )
    assert 50 <= found[0] < 60
    assert found[0] + found[1] <= 70


def test_a_key_in_the_wrong_place_is_masked(acme: Acme, tokens: Any, database: Database) -> None:
    acme.lease(**{"X-Reason": f"for {KEY}", "X-Request-ID": KEY})
    acme.client.get(f"/v1/credentials/{KEY}", headers=acme.admin)
    acme.client.get("/v1/credentials/some-key-of-no-known-shape", headers=acme.admin)
    acme.client.post("/v1/lease", json={"user_id": KEY, "provider": KEY}, headers=acme.admin)
    tokens.person(KEY, acme.org)
    acme.add(tokens.person(KEY, acme.org))
    assert acme.audit(action="key.lease", outcome="done")[0]["reason"] == "for [masked key]"
    dump = str(database.rows("SELECT a::text FROM registry.audit a"))
    assert KEY not in dump
    assert "no-known-shape" not in dump


@pytest.mark.parametrize("headers", [{"X-Reason": "x" * 201}, {"X-Request-ID": "x" * 129}, {"X-Reason": "é"}])
def test_what_is_noted_is_short_and_printable(acme: Acme, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = acme.client.get("/v1/providers", headers=acme.admin | encoded)
    assert answer.status_code == 422


# Reading


def test_an_admin_does_not_see_the_hint_of_a_members_own_key(acme: Acme) -> None:
    acme.add(acme.uma, "personal", "uma")
    (admins,) = acme.audit(action="credential.add")
    (services,) = acme.audit(acme.platform, org_id=acme.org, action="credential.add")
    assert (admins["hint"], services["hint"]) == (None, "…5678")
    assert admins["scope"] == {"type": "personal", "id": "uma"}


def test_filters_and_pages(acme: Acme) -> None:
    added = [acme.add(acme.admin, owner=f"t{number}").json()["credential_id"] for number in range(5)]
    assert [row["credential_id"] for row in acme.audit(credential_id=added[1])] == [added[1]]
    assert {row["actor"] for row in acme.audit(actor="ada")} == {"ada"}
    assert len(acme.audit(actor="nobody")) == 0
    rows = acme.audit()
    since = [row["seq"] for row in acme.audit(**{"from": rows[2]["occurred_at"]})]
    until = [row["seq"] for row in acme.audit(to=rows[2]["occurred_at"])]
    assert since == [row["seq"] for row in rows[:3]]
    assert until == [row["seq"] for row in rows[3:]]
    assert acme.audit(None, **{"from": "2090-01-01T00:00:00Z"}) == acme.audit(to="2001-01-01T00:00:00Z") == []
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = acme.client.get("/v1/audit", params=query, headers=acme.admin).json()
        seen += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == rows
    for odd in ("action=odd", "outcome=odd", "limit=0", "cursor=!!", "from=yesterday"):
        assert acme.client.get(f"/v1/audit?{odd}", headers=acme.admin).status_code == 422


def test_a_token_for_every_organization_reads_all_of_them(acme: Acme, client: TestClient, tokens: Any) -> None:
    other = Acme(client, tokens, f"{acme.org}-2")
    assert {row["org_id"] for row in acme.audit(acme.platform, limit=2)} == {acme.org, other.org}
    assert {row["org_id"] for row in acme.audit(acme.platform, org_id=acme.org)} == {acme.org}


# Never one without the other


@contextmanager
def without_audit(database: Database) -> Iterator[None]:
    """The service may not write to the audit log meanwhile."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE registry.audit ADD CONSTRAINT nothing CHECK (false) NOT VALID")
        try:
            yield
        finally:
            owner.execute("ALTER TABLE registry.audit DROP CONSTRAINT nothing")


def test_nothing_is_done_that_cannot_be_written(acme: Acme, database: Database) -> None:
    path = f"/v1/credentials/{acme.add(acme.admin, label='old').json()['credential_id']}"
    before = database.rows("SELECT last_seq FROM registry.log_head")
    with without_audit(database):
        answers = [
            acme.add(acme.admin, owner="another"),
            acme.client.patch(path, json={"label": "new"}, headers=acme.admin),
            acme.client.delete(path, headers=acme.admin),
            acme.plan("pro"),
            acme.lease(),
        ]
    assert [answer.status_code for answer in answers] == [500] * 5
    assert not [answer for answer in answers if KEY in answer.text]
    assert database.rows("SELECT last_seq FROM registry.log_head") == before
    shown = acme.client.get(path, headers=acme.admin).json()
    assert (shown["status"], shown["label"]) == ("active", "old")
    assert acme.lease().json()["secret"] == KEY


def test_the_database_refuses_to_alter_the_log(acme: Acme, database: Database) -> None:
    statements = (
        "UPDATE registry.audit SET actor = 'nobody'",
        "DELETE FROM registry.audit",
        "TRUNCATE registry.audit",
        "DELETE FROM registry.audit_head",
    )
    for dsn in (database.dsn, database.admin_dsn):
        for statement in statements:
            with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    only_by_appending = (
        "UPDATE registry.audit_head SET last_seq = 0",
        "INSERT INTO registry.audit (seq, actor, actor_org, action, outcome) VALUES (1, 'a', 'o', 'x', 'done')",
        "INSERT INTO registry.audit (hash, actor, actor_org, action, outcome) VALUES ('', 'a', 'o', 'x', 'done')",
    )
    for statement in only_by_appending:
        with psycopg.connect(database.dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_concurrent_leases_and_changes_make_one_chain(acme: Acme, database: Database) -> None:
    acme.add(acme.admin)
    before = verified(database).rows

    def change(number: int) -> None:
        made = acme.add(acme.admin, owner=f"c{number}")
        assert made.status_code == 201, made.text
        path = f"/v1/credentials/{made.json()['credential_id']}"
        assert acme.client.delete(path, headers=acme.admin).status_code == 204

    with ThreadPoolExecutor(12) as threads:
        leases = [threads.submit(acme.lease) for _ in range(150)]
        list(threads.map(change, range(15)))
    assert {lease.result().json()["secret"] for lease in leases} == {KEY}
    assert verified(database).rows == before + 150 + 2 * 15


# Verification


@contextmanager
def tampering(database: Database) -> Iterator[Any]:
    """What somebody can do who owns the tables and turns the triggers off."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE registry.audit DISABLE TRIGGER USER")
        owner.execute("ALTER TABLE registry.audit_head DISABLE TRIGGER USER")
        yield owner
        owner.execute("ALTER TABLE registry.audit ENABLE TRIGGER USER")
        owner.execute("ALTER TABLE registry.audit_head ENABLE TRIGGER USER")


@pytest.fixture
def ten_rows(new_database: Callable[[], Database]) -> Database:
    database = new_database()
    row = "INSERT INTO registry.audit (actor, actor_org, action, outcome, reason) VALUES (%s, 'o', 'x', 'done', 'é,1:')"
    with psycopg.connect(database.dsn) as connection:
        for number in range(10):
            connection.execute(row, (f"a{number}",))
    return database


@pytest.mark.parametrize(
    ("statements", "first"),
    [
        (["UPDATE registry.audit SET actor = 'mallory' WHERE seq = 4"], 4),
        (["UPDATE registry.audit SET hash = sha256('x') WHERE seq = 4"], 4),
        (["DELETE FROM registry.audit WHERE seq = 4"], 4),
        (["DELETE FROM registry.audit WHERE seq = 1"], 1),
        (["DELETE FROM registry.audit WHERE seq > 8"], 9),
        (["DELETE FROM registry.audit"], 1),
        (["UPDATE registry.audit_head SET last_seq = 9"], 10),
        (["UPDATE registry.audit_head SET last_hash = sha256('x')"], 10),
        (
            [
                "ALTER TABLE registry.audit DROP CONSTRAINT audit_seq_check",
                "UPDATE registry.audit SET seq = -seq WHERE seq IN (4, 5)",
                "UPDATE registry.audit SET seq = 9 + seq WHERE seq IN (-4, -5)",
            ],
            4,
        ),
    ],
)
def test_verify_names_the_first_row_that_is_broken(ten_rows: Database, statements: list[str], first: int) -> None:
    assert verified(ten_rows).rows == 10
    with tampering(ten_rows) as owner:
        for statement in statements:
            owner.execute(statement)
    with pytest.raises(BrokenChain) as broken:
        verified(ten_rows)
    assert broken.value.seq == first


def test_an_end_that_was_cut_off_with_its_head_is_found_by_a_head_that_was_kept(ten_rows: Database) -> None:
    kept = verified(ten_rows).head
    with tampering(ten_rows) as owner:
        owner.execute("DELETE FROM registry.audit WHERE seq > 8")
        owner.execute(
            "UPDATE registry.audit_head SET (last_seq, last_at, last_hash) ="
            " (SELECT seq, occurred_at, hash FROM registry.audit WHERE seq = 8)"
        )
    assert verified(ten_rows).rows == 8
    with pytest.raises(BrokenChain, match="kept"):
        verified(ten_rows, kept)
    assert verified(ten_rows, verified(ten_rows).head).rows == 8


def audit_verify(database: Database, *options: str) -> subprocess.CompletedProcess[str]:
    return typed("audit", "verify", *options, settings={"BYOK_REGISTRY_DSN": database.dsn})


def test_the_command(ten_rows: Database) -> None:
    good = audit_verify(ten_rows)
    head = verified(ten_rows).head.hex()
    assert (good.returncode, good.stdout) == (0, f"10 rows, 0 differences\nhead {head}\n")
    assert audit_verify(ten_rows, "--head", head).returncode == 0
    assert audit_verify(ten_rows, "--head", "nonsense").returncode == 2
    other = audit_verify(ten_rows, "--head", "ab" * 32)
    assert (other.returncode, "row 11" in other.stdout) == (1, True)
    with tampering(ten_rows) as owner:
        owner.execute("UPDATE registry.audit SET reason = '' WHERE seq = 7")
    bad = audit_verify(ten_rows, "--json")
    assert bad.returncode == 1
    assert '"row": 7' in bad.stdout


# From where, and how often


def app_with(registry: Registry, database: Database, settings_for: Callable[..., Any], limits: CallLimits) -> Any:
    metrics = registry_metrics(registry.sessions)
    return registry_app(registry, TokenVerifier(settings_for(database)), metrics, {}, limits, BODIES)


@pytest.mark.parametrize(
    ("trusted", "address"), [(None, "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "198.51.100.7")]
)
def test_only_a_trusted_proxy_says_where_a_request_is_from(
    client: TestClient, tokens: Any, org: str, trusted: str | None, address: str
) -> None:
    with served(client.app, trusted) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as http:  # type: ignore[arg-type]
        acme = Acme(http, tokens, org)
        acme.lease(**{"X-Forwarded-For": "192.0.2.66, 198.51.100.7"})
        (row,) = acme.audit(action="key.lease")
    assert row["client_address"] == address


def test_rates_are_per_caller_and_leases_have_their_own(
    registry: Registry, database: Database, settings_for: Callable[..., Any], tokens: Any, org: str
) -> None:
    limits = CallLimits(calls=RateLimit(0.01, 3), leases=RateLimit(0.01, 5))
    client = TestClient(app_with(registry, database, settings_for, limits))
    uma, runner = tokens.person("uma", org), tokens.service("credentials:lease", org)
    operator = tokens.sign("platform", "*", EVERY_SCOPE, org_role="admin")

    def statuses(times: int, method: str, path: str, who: dict[str, str]) -> list[int]:
        body = {"user_id": "uma", "provider": "openai", "org_id": org} if method == "POST" else None
        return [client.request(method, path, headers=who, json=body).status_code for _ in range(times)]

    assert statuses(5, "GET", "/v1/credentials", uma) == [200] * 3 + [429] * 2
    assert statuses(7, "POST", "/v1/lease", runner) == [200] * 5 + [429] * 2
    assert statuses(4, "GET", "/v1/providers", runner) == [200] * 3 + [429]
    assert statuses(8, "POST", "/v1/lease", operator) == [200] * 8
    refused = client.get("/v1/providers", headers=uma)
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    assert client.get("/healthz").status_code == 200
