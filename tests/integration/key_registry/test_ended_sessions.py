"""Signing out everywhere: each for itself, on a clock that only goes on; audited, and forgotten in time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from services.key_registry.sweeper import sweep
from tests.integration.key_registry.registry_caller import Api

SESSIONS, END = "/v1/sessions", "/v1/sessions/end"


def seen(api: Api, who: dict[str, str]) -> datetime | None:
    answer = api.client.get(SESSIONS, headers=who)
    assert answer.status_code == 200, answer.text
    text = answer.json()["ended_before"]
    return None if text is None else datetime.fromisoformat(text)


def end(api: Api, who: dict[str, str]) -> datetime:
    answer = api.client.post(END, headers=who)
    assert answer.status_code == 200, answer.text
    return datetime.fromisoformat(answer.json()["ended_before"])


def test_whoever_ends_sessions_ends_its_own_and_nobody_elses(api: Api, tokens: Any) -> None:
    before = datetime.now(UTC)
    others = [api.admin, tokens.person("uma", f"{api.org}-2"), api.platform, tokens.service("", api.org)]
    uma = tokens.person("uma", api.org)
    assert seen(api, uma) is None
    ended = end(api, uma)
    assert before <= ended <= datetime.now(UTC)
    # Another token of the same person: that is the point of it.
    assert seen(api, tokens.person("uma", api.org, growth="admin")) == ended
    assert [seen(api, other) for other in others] == [None] * len(others)


def test_the_time_only_rises_however_many_end_at_once_and_whatever_the_clock_does(
    api: Api, tokens: Any, database: Any
) -> None:
    uma = tokens.person("uma", api.org)
    with ThreadPoolExecutor(8) as pool:
        times = list(pool.map(lambda _: end(api, uma), range(24)))
    assert len(set(times)) == 24
    assert seen(api, uma) == max(times)
    ahead = "UPDATE registry.ended_sessions SET ended_before = now() + interval '1 hour' WHERE org_id = %s RETURNING 1"
    database.rows(ahead, api.org)
    known = seen(api, uma)
    assert known is not None
    assert end(api, uma) > known


def test_the_audit_log_has_it_and_no_one_is_named_but_who_did_it(api: Api, tokens: Any) -> None:
    end(api, tokens.person("uma", api.org))
    query = {"action": "sessions.end", "org_id": api.org}
    (row,) = api.client.get("/v1/audit", params=query, headers=api.admin).json()["items"]
    assert (row["actor"], row["outcome"], row["credential_id"]) == ("uma", "done", None)


def test_what_can_end_no_session_any_more_is_forgotten(api: Api, tokens: Any, database: Any, registry: Any) -> None:
    old, new = tokens.person("old", api.org), tokens.person("new", api.org)
    end(api, old)
    kept = end(api, new)
    aged = "UPDATE registry.ended_sessions SET ended_before = now() - interval '32 days' WHERE subject = %s RETURNING 1"
    database.rows(aged, "old")
    assert sweep(registry.sessions).ended_sessions == 1
    assert (seen(api, old), seen(api, new)) == (None, kept)
