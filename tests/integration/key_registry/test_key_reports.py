"""How keys fare at their providers, as runners report it: what is shown of it, what is kept, and what is counted."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from prometheus_client import generate_latest

from services.domain.masking import MASK
from services.key_registry.handlers.registry import Registry
from services.key_registry.metrics import registry_metrics
from services.key_registry.rules.health import SAID_AGAIN_AFTER
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

OTHER = "sk-ant-api03-other-other-other-4321"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


class Keys:
    """One key, and a runner that uses it."""

    def __init__(self, api: Api, tokens: Any, database: Any) -> None:
        self.api, self._database = api, database
        self.runner = tokens.service("credentials:lease", api.org)
        self.added = self.add("organization", api.org)

    def add(self, level: str, owner: str, provider: str = "openai") -> dict[str, Any]:
        """A key that has been in use since yesterday."""
        added: dict[str, Any] = self.api.add(self.api.admin, level, owner, provider).json()
        aged = "UPDATE registry.secret_version SET created_at = created_at - interval '1 day' WHERE credential_id = %s"
        self._database.rows(f"{aged} RETURNING 1", added["credential_id"])
        return added

    def report(self, outcome: str, seconds_ago: float = 0, /, **more: Any) -> Response:
        body = {"outcome": outcome, "at": ago(seconds_ago)} | more
        return self.api.client.post(f"{path_of(self.added)}/reports", json=body, headers=self.runner)

    def kept(self, outcome: str, seconds_ago: float = 0, /, **more: Any) -> bool:
        """Whether a report is what is shown now."""
        answer = self.report(outcome, seconds_ago, **more)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"credential_id", "kept"}
        its: bool = answer.json()["kept"]
        return its

    def rotate(self, key: str = OTHER) -> None:
        place = f"{path_of(self.added)}/rotate"
        self.api.client.post(place, json={"api_key": key}, headers=self.api.admin).raise_for_status()

    @property
    def health(self) -> dict[str, Any] | None:
        its: dict[str, Any] | None = shown(self.api, self.added)["health"]
        return its

    @property
    def outcome(self) -> str | None:
        return None if self.health is None else str(self.health["outcome"])

    def audited(self) -> list[dict[str, Any]]:
        """What the audit log has of reports, the newest first."""
        query = {"credential_id": self.added["credential_id"], "action": "credential.report"}
        rows: list[dict[str, Any]] = self.api.client.get("/v1/audit", params=query, headers=self.api.admin).json()[
            "items"
        ]
        return rows


@pytest.fixture
def keys(enterprise: Api, tokens: Any, database: Any) -> Keys:
    return Keys(enterprise, tokens, database)


def test_what_a_runner_reports_is_shown_and_moves_nothing(keys: Keys, database: Any) -> None:
    tag, logged = shown_tag(keys.api, path_of(keys.added)), messages(database, keys.added)
    at = ago(30)
    assert keys.kept("rejected", at=at, detail="invalid x-api-key")
    assert keys.health == {"outcome": "rejected", "at": at.replace("+00:00", "Z"), "detail": "invalid x-api-key"}
    # What was reported is no change of the key: neither of its ETag, nor in the log, nor of how it stands.
    assert (shown_tag(keys.api, path_of(keys.added)), messages(database, keys.added)) == (tag, logged)
    assert shown(keys.api, keys.added)["status"] == "active"
    assert keys.api.ask("lease").json()["secret"] == CANARY


def test_only_what_is_newer_and_no_echo_is_written(keys: Keys, database: Any) -> None:
    written = "SELECT xmin::text FROM registry.secret_version WHERE credential_id = %s"
    assert keys.kept("accepted", 300)
    row = database.rows(written, keys.added["credential_id"])
    assert not keys.kept("accepted", 250)
    assert not keys.kept("rejected", 400)
    assert database.rows(written, keys.added["credential_id"]) == row
    assert keys.kept("accepted", 240)
    assert keys.kept("rejected", 239)
    assert keys.outcome == "rejected"


def test_the_audit_log_has_each_turn_and_no_repetition(keys: Keys) -> None:
    for number, outcome in enumerate(["accepted", "accepted", "exhausted", "exhausted", "accepted"]):
        assert keys.kept(outcome, 600 - 90 * number)
    rows = keys.audited()
    assert [(row["outcome"], row["actor"]) for row in rows] == [("done", "some-service")] * 3
    assert [row["detail"] for row in rows] == [
        {"before": "exhausted", "outcome": "accepted"},
        {"before": "accepted", "outcome": "exhausted"},
        {"before": None, "outcome": "accepted"},
    ]


def test_many_at_once_leave_the_newest(keys: Keys) -> None:
    # Further apart than what is said again is passed over: of two nearer ones the older may come after an echo.
    apart = SAID_AGAIN_AFTER.total_seconds() + 1
    reports = [("rejected" if number % 3 else "accepted", ago(apart * number)) for number in range(30)]
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda each: keys.report(each[0], at=each[1]).status_code, reports))
    assert set(answers) == {200}
    assert keys.outcome == "accepted"
    turns = [row["detail"] for row in reversed(keys.audited())]
    assert [turn["before"] for turn in turns] == [None, *(turn["outcome"] for turn in turns[:-1])]


def test_a_rotation_clears_it_and_what_is_said_of_the_key_before_taints_nothing(keys: Keys) -> None:
    leased = keys.api.ask("lease").json()
    assert keys.kept("rejected", 10)
    keys.rotate()
    assert keys.health is None
    # Said before the rotation, or later by somebody who still used what it had leased before.
    assert not keys.kept("rejected", 5)
    assert not keys.kept("rejected", leased_at=leased["at"])
    assert keys.health is None
    assert keys.kept("accepted", leased_at=keys.api.ask("lease").json()["at"])
    assert keys.outcome == "accepted"


def test_after_an_undo_the_key_of_before_fares_as_it_did(keys: Keys) -> None:
    assert keys.kept("exhausted", 90)
    keys.rotate()
    of_the_new_key = keys.api.ask("lease").json()["at"]
    assert keys.kept("rejected")
    keys.api.client.post(f"{path_of(keys.added)}/rotate/undo", headers=keys.api.admin).raise_for_status()
    assert keys.outcome == "exhausted"
    assert not keys.kept("rejected", leased_at=of_the_new_key)
    assert keys.kept("accepted")


@pytest.mark.slow
def test_a_detail_holds_no_key(keys: Keys, database: Any) -> None:
    assert keys.kept("rejected", detail=f"Incorrect API key provided: {CANARY}.")
    assert keys.health is not None
    assert keys.health["detail"] == f"Incorrect API key provided: {MASK}."
    tables = database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'registry'")
    dump = "".join(str(database.rows(f"SELECT t::text FROM registry.{name} t")) for (name,) in tables)
    assert CANARY not in dump


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("outcome", {"outcome": "unwell"}),
        ("at", {"at": "yesterday"}),
        ("at", {"at": ago(-3600)}),
        ("at", {"at": ago(86_400 + 60)}),
        ("detail", {"detail": "x" * 201}),
        ("detail", {"detail": 7}),
        ("leased_at", {"leased_at": 7}),
        ("body", {CANARY: "x"}),
    ],
)
@pytest.mark.slow
def test_a_report_that_makes_no_sense(keys: Keys, field: str, change: dict[str, Any]) -> None:
    names_field(keys.report("rejected", **change), field)
    assert keys.health is None
    assert keys.audited() == []


def test_a_clock_that_is_a_little_ahead_locks_out_nobody(keys: Keys) -> None:
    assert keys.kept("rejected", -240)
    assert keys.kept("accepted")
    assert keys.outcome == "accepted"


@pytest.mark.slow
def test_of_what_is_not_there_nothing_is_reported(keys: Keys, tokens: Any) -> None:
    keys.runner = tokens.service("credentials:lease", "elsewhere")
    refused(keys.report("rejected"), 404, "not_found")
    keys.runner = tokens.service("credentials:lease")
    assert keys.kept("rejected")
    keys.api.client.delete(path_of(keys.added), headers=keys.api.admin).raise_for_status()
    refused(keys.report("accepted"), 404, "not_found")
    unknown = "/v1/credentials/none/reports"
    body = {"outcome": "rejected", "at": ago(0)}
    refused(keys.api.client.post(unknown, json=body, headers=keys.runner), 404, "not_found")


def test_an_answer_that_was_kept_before_there_was_any_health_is_given_again(keys: Keys, database: Any) -> None:
    client: TestClient = keys.api.client
    body, once = {"api_key": OTHER}, keys.api.admin | {"Idempotency-Key": f"of-{keys.api.org}"}
    first = client.post(f"{path_of(keys.added)}/rotate", json=body, headers=once)
    assert first.status_code == 200
    kept = database.rows("SELECT answer FROM registry.idempotent_answer ORDER BY answered_at DESC LIMIT 1")[0][0]
    # The release before reads it, too.
    assert "health" not in kept
    assert client.post(f"{path_of(keys.added)}/rotate", json=body, headers=once).json() == first.json()


def series(page: str, name: str) -> dict[str, float]:
    return {labels: float(value) for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", page, re.MULTILINE)}


@pytest.mark.slow
def test_reports_are_counted_and_so_are_keys_that_fail(keys: Keys, registry: Registry) -> None:
    def reports() -> float:
        page = keys.api.client.get("/metrics").text
        return series(page, "byok_key_reports_total").get('outcome="rejected",provider="google"', 0)

    def failing() -> tuple[float, float]:
        # What was read a second ago would be shown again.
        page = generate_latest(registry_metrics(registry.sessions)).decode()
        found = series(page, "byok_failing_credentials")
        return found['outcome="rejected",provider="google"'], found['outcome="exhausted",provider="google"']

    keys.added = keys.add("team", "t", "google")
    before, none = reports(), failing()
    keys.kept("rejected", 30)
    keys.kept("rejected", 20)
    keys.report("rejected", -3600)
    assert reports() == before + 2
    assert failing() == (none[0] + 1, none[1])
    keys.kept("exhausted", 10)
    assert failing() == (none[0], none[1] + 1)
    patch(keys.api, keys.added, enabled=False)
    page = generate_latest(registry_metrics(registry.sessions)).decode()
    assert not [labels for labels in series(page, "byok_failing_credentials") if "google" in labels]
