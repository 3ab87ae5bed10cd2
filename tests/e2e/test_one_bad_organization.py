"""One bad organization among fifty, at the default limits: by HTTP and by Kafka, it harms nobody but itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.running import USAGE, Stack, node_call, start_stack
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.typed import typed

REQUESTS, EVENTS = 110, 1_000
OTHERS = 49
IN_2030 = "2030-01-01T00:00:00Z"
METERING = 2
"""Which of the metrics' addresses is the worker's."""


def _batch(org_id: str, number: int) -> list[dict[str, Any]]:
    return [node_call(org_id, id=f"{number}-{n}", time=IN_2030, source="its own") for n in range(EVENTS)]


def _post(stack: Stack, *events: dict[str, Any]) -> httpx.Response:
    """As a runner: the operator's token has no limits."""
    headers = {"Authorization": f"Bearer {stack.told['tokens']['runner']}"}
    return httpx.post(
        f"{stack.told['ledger_url']}/v1/usage-events", json=list(events), headers=headers, timeout=PATIENCE_SECONDS
    )


def _send_all(stack: Stack, bad: str) -> None:
    """By Kafka, without waiting for each."""
    sent = [
        stack.producer.send(USAGE, json.dumps(_batch(bad, number)).encode(), bad.encode()) for number in range(REQUESTS)
    ]
    for future in sent:
        future.get(PATIENCE_SECONDS)


def _dead_letters(stack: Stack, org_id: str) -> int:
    query = "SELECT count(*) AS letters FROM ledger.dead_letters WHERE org_id = %s"
    row = stack.sql.execute(query, (org_id,)).fetchone()
    return 0 if row is None else int(row["letters"])


def _assert_others_are_booked(stack: Stack, others: list[str], send: Callable[[dict[str, Any]], object]) -> None:
    before = {org_id: len(stack.entries(org_id)) for org_id in others}
    for org_id in others:
        send(node_call(org_id, source=f"runner of {org_id}"))
    for org_id in others:
        assert len(stack.entries(org_id, before[org_id] + 1)) == before[org_id] + 1


def _worker(stack: Stack, path: str) -> httpx.Response:
    return httpx.get(str(stack.told["metrics"][METERING]).removesuffix("/metrics") + path, timeout=PATIENCE_SECONDS)


@pytest.mark.slow
def test_a_hundred_thousand_bad_events_of_one_pause_nobody(tmp_path: Path) -> None:
    with start_stack(tmp_path / "data") as stack:
        bad, others = stack.new_organization(), [stack.new_organization() for _ in range(OTHERS)]
        _assert_others_are_booked(stack, others, stack.publish)

        answers = [_post(stack, *_batch(bad, number)) for number in range(REQUESTS)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "time_in_future")}
        _assert_others_are_booked(stack, others, partial(_post, stack))
        assert _dead_letters(stack, bad) == 0

        _send_all(stack, bad)
        wait_for("every bad event", lambda: _dead_letters(stack, bad) == REQUESTS * EVENTS)
        _assert_others_are_booked(stack, others, stack.publish)
        assert _worker(stack, "/readyz").status_code == 200
        metrics = wait_for("the alarm", lambda: _failing(_worker(stack, "/metrics").text))
        assert metrics == {'kind="organization"': 1, 'kind="source"': 1}

        # Of this one nothing more is taken over HTTP for a while, and of the others all is.
        wait_for("the quota", lambda: _post(stack, node_call(bad)).status_code == 429)
        answer = _post(stack, node_call(bad), node_call(others[0]))
        assert (answer.status_code, answer.json()["accepted"]) == (207, 1)
        assert answer.json()["errors"][0]["code"] == "dead_letter_quota"

        status = typed("dead-letters", "status", "--json", settings={"BYOK_LEDGER_DSN": stack.told["ledger_dsn"]})
        assert json.loads(status.stdout) == {
            "pause": None,
            "ignored": [],
            "last_hour": [{"org_id": bad, "reason": "time_in_future", "dead_letters": REQUESTS * EVENTS}],
        }


def _failing(text: str) -> dict[str, int] | None:
    lines = [line for line in text.splitlines() if line.startswith("byok_failing_origins{")]
    found = {line[line.index("{") + 1 : line.index("}")]: int(float(line.split()[-1])) for line in lines}
    return found if any(found.values()) else None
