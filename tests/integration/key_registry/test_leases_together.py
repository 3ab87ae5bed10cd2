"""Leases that are asked for at the same time are answered together: on record first, and each as if it were alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import Engine, event

from services.domain.permissions import Caller
from services.domain.resolution import Reason, Use
from services.key_registry.audit.verify import verify_audit
from services.key_registry.handlers.key_questions import Lease
from services.key_registry.handlers.keys import lease_key, resolve_key
from services.key_registry.handlers.registry import Registry
from services.key_registry.rules.refusals import Code
from services.local.embedded.postgres import Postgres
from services.runtime.refusals import Refusal
from tests.integration.key_registry.conftest import Database
from tests.integration.key_registry.registry_caller import CANARY, Api, path_of
from tests.patience import PATIENCE_SECONDS

RUNNER = Caller("runner", "*", None, {}, frozenset({"credentials:lease"}))


def use_of(org: str, provider: str = "openai") -> Use:
    return Use(org, "t", "uma", provider, datetime.now(UTC))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def audit_held(database: Database) -> Iterator[Callable[[], int]]:
    """Nobody can write to the audit log meanwhile; yields who is waiting to do so, by the backend's process id."""

    def waits() -> int:
        found = database.rows("SELECT pid FROM pg_locks WHERE NOT granted")
        return int(found[0][0]) if found else 0

    with psycopg.connect(database.admin_dsn) as holder:
        holder.execute("SELECT 1 FROM registry.audit_head FOR UPDATE")
        yield waits


def rows_of(database: Database, org: str, actor: str = "runner") -> int:
    counted = "SELECT count(*) FROM registry.audit WHERE actor = %s AND (org_id = %s OR actor_org = %s)"
    return int(database.rows(counted, actor, org, org)[0][0])


def verify(database: Database) -> None:
    with psycopg.connect(database.dsn) as connection:
        verify_audit(connection)


@pytest.fixture
def keyed(enterprise: Api) -> Api:
    """An organization with a team's key."""
    assert enterprise.add(enterprise.admin, "team", "t").status_code == 201
    return enterprise


def group(registry: Registry, database: Database, asked: list[tuple[Caller, Use]]) -> list[Future[Lease]]:
    """The leases, all but the first of which wait while that one's row cannot be written: so they are one group."""
    with audit_held(database) as waits:
        leases = [lease_key(registry, *asked[0])]
        wait_until(lambda: waits() > 0)
        leases += [lease_key(registry, *each) for each in asked[1:]]
        assert not any(lease.done() for lease in leases)
    return leases


def test_none_is_answered_before_its_row_is_there_and_the_chain_is_whole(
    keyed: Api, registry: Registry, database: Database
) -> None:
    with audit_held(database) as waits:
        leases = [lease_key(registry, RUNNER, use_of(keyed.org)) for _ in range(40)]
        wait_until(lambda: waits() > 0)
        assert not any(lease.done() for lease in leases)
        assert rows_of(database, keyed.org) == 0
    secrets = [lease.result(PATIENCE_SECONDS).secret for lease in leases]
    assert {secret.get_secret_value() for secret in secrets if secret is not None} == {CANARY}
    assert rows_of(database, keyed.org) == len(secrets) == 40
    verify(database)


def test_a_group_costs_one_look_and_one_row_of_each(keyed: Api, registry: Registry, database: Database) -> None:
    bind = registry.sessions.kw["bind"]
    assert isinstance(bind, Engine)
    lease_key(registry, RUNNER, use_of(keyed.org)).result(PATIENCE_SECONDS)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    event.listen(bind, "before_cursor_execute", note)
    try:
        leases = group(registry, database, [(RUNNER, use_of(keyed.org))] * 30)
        for lease in leases:
            lease.result(PATIENCE_SECONDS)
    finally:
        event.remove(bind, "before_cursor_execute", note)
    # Of the first alone, and of all others; whatever else this process does at times is not about leases.
    assert len([statement for statement in statements if "registry.audit (" in statement]) == 2
    assert len([statement for statement in statements if "WITH moment" in statement]) == 2


def test_what_is_refused_to_one_is_refused_to_nobody_else(keyed: Api, registry: Registry, database: Database) -> None:
    stranger = Caller("stranger", f"{keyed.org}-other", None, {}, frozenset({"credentials:lease"}))
    without = Caller("without", "*", None, {}, frozenset())
    lost = keyed.add(keyed.admin, "team", "t", provider="anthropic").json()
    database.rows(
        "UPDATE registry.secret_version SET kek_id = 'gone' WHERE credential_id = %s RETURNING 1",
        lost["credential_id"],
    )
    asked = [
        (RUNNER, use_of(keyed.org)),
        (stranger, use_of(keyed.org)),
        (RUNNER, use_of(keyed.org)),
        (without, use_of(keyed.org)),
        (RUNNER, use_of(keyed.org, "anthropic")),
        (RUNNER, use_of(f"{keyed.org}-none")),
    ]
    leases = group(registry, database, asked)
    outcomes = [lease.exception(PATIENCE_SECONDS) for lease in leases]
    assert [error.code if isinstance(error, Refusal) else error for error in outcomes] == [
        None,
        Code.ORGANIZATION_FORBIDDEN,
        None,
        Code.INSUFFICIENT_SCOPE,
        Code.CREDENTIAL_UNUSABLE,
        None,
    ]
    assert leases[5].result().answer.resolution.reason is Reason.PLAN_NOT_ENTITLED
    written = database.rows(
        "SELECT actor, outcome, code FROM registry.audit WHERE action = 'key.lease' AND (org_id LIKE %s) ORDER BY seq",
        f"{keyed.org}%",
    )
    assert written == [
        ("runner", "done", None),
        ("stranger", "refused", "organization_forbidden"),
        ("runner", "done", None),
        ("without", "refused", "insufficient_scope"),
        ("runner", "refused", "credential_unusable"),
        ("runner", "done", None),
    ]
    verify(database)


def test_a_row_that_the_database_does_not_take_keeps_no_other_out(
    keyed: Api, registry: Registry, database: Database
) -> None:
    # No token has such a name; if one ever had, it would be its own trouble.
    odd = Caller("\x00", "*", None, {}, frozenset({"credentials:lease"}))
    leases = group(
        registry, database, [(RUNNER, use_of(keyed.org)), (RUNNER, use_of(keyed.org)), (odd, use_of(keyed.org))]
    )
    assert [lease.exception(PATIENCE_SECONDS) is None for lease in leases] == [True, True, False]
    assert isinstance(leases[2].exception(), sqlalchemy.exc.DataError)
    assert rows_of(database, keyed.org) == 2
    verify(database)


def test_a_connection_that_dies_in_the_middle_of_a_group_answers_none_of_it_and_the_next_is_well(
    keyed: Api, registry: Registry, database: Database, postgres: tuple[Postgres, int]
) -> None:
    with audit_held(database) as waits:
        leases = [lease_key(registry, RUNNER, use_of(keyed.org)) for _ in range(10)]
        wait_until(lambda: waits() > 0)
        # Those that are in the group whose row waits; others may have come after it.
        with postgres[0].connect() as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (waits(),))
        wait_until(lambda: any(lease.done() for lease in leases))
    died = [lease for lease in leases if isinstance(lease.exception(PATIENCE_SECONDS), sqlalchemy.exc.OperationalError)]
    assert died
    assert rows_of(database, keyed.org) == len(leases) - len(died)
    after = lease_key(registry, RUNNER, use_of(keyed.org)).result(PATIENCE_SECONDS).secret
    assert after is not None
    assert after.get_secret_value() == CANARY
    verify(database)


def test_no_lease_after_the_answer_to_a_revocation_has_the_key(keyed: Api, registry: Registry) -> None:
    """Many lease all the time while keys are revoked and added; whoever asks after the answer gets none."""
    stop, wrong = threading.Event(), list[str]()

    def lease() -> None:
        while not stop.is_set():
            lease_key(registry, RUNNER, use_of(keyed.org)).result(PATIENCE_SECONDS)

    with ThreadPoolExecutor(6) as threads:
        leasing = [threads.submit(lease) for _ in range(6)]
        try:
            for number in range(8):
                added = keyed.add(keyed.admin, "team", f"r{number}").json()
                mine = use_of(keyed.org)._replace(team_id=f"r{number}")
                before = lease_key(registry, RUNNER, mine).result(PATIENCE_SECONDS)
                assert before.secret is not None
                assert keyed.client.delete(path_of(added), headers=keyed.admin).status_code == 204
                after = [lease_key(registry, RUNNER, mine) for _ in range(5)]
                wrong += [added["credential_id"] for each in after if each.result(PATIENCE_SECONDS).secret is not None]
        finally:
            stop.set()
    assert not wrong
    assert [each.exception() for each in leasing] == [None] * 6


def test_the_past_and_the_present_are_resolved_together(keyed: Api, registry: Registry) -> None:
    past = use_of(keyed.org)._replace(at=datetime(2026, 1, 1, tzinfo=UTC))
    asked = [
        resolve_key(registry, RUNNER, use, now=now) for use, now in ((past, False), (past, True)) for _ in range(5)
    ]
    reasons = [each.result(PATIENCE_SECONDS).resolution.reason for each in asked]
    assert reasons == [Reason.PLAN_NOT_ENTITLED] * 5 + [Reason.TEAM_KEY] * 5
