"""What changed, for runners: in order, without secrets, at once; and what it costs to wait for it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.metrics import registry_metrics
from services.runtime.rate_limit import RateLimit
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import BODIES, served
from tests.integration.key_registry.registry_caller import CANARY, Api, names_field, patch, path_of, refused
from tests.patience import PATIENCE_SECONDS, wait_for


class Runner:
    """A service that leases keys, and follows what changes."""

    def __init__(self, ask: Any, headers: dict[str, str]) -> None:
        self._ask, self.headers = ask, headers
        self.after: int | None = None

    def asks(self, **query: object) -> Any:
        """The raw answer, from where it is on."""
        known = {} if self.after is None else {"after": self.after}
        return self._ask.get("/v1/changes", params=known | query, headers=self.headers)

    def hears(self, **query: object) -> list[dict[str, Any]]:
        """What is new to it."""
        answer = self.asks(**query)
        assert answer.status_code == 200, answer.text
        self.after = answer.json()["next_after"]
        changes: list[dict[str, Any]] = answer.json()["changes"]
        return changes


def runner(ask: Any, tokens: Any, org_id: str = "*") -> Runner:
    """One that begins now."""
    begun = Runner(ask, tokens.service("credentials:lease", org_id))
    assert begun.hears() == []
    return begun


def test_without_a_place_one_is_told_where_the_log_ends(enterprise: Api, tokens: Any, database: Any) -> None:
    begun = runner(enterprise.client, tokens)
    assert database.rows("SELECT last_seq FROM registry.log_head") == [(begun.after,)]
    assert begun.asks().json() == {"changes": [], "next_after": begun.after, "more": False}


def test_credentials_and_plans_are_told_as_the_log_has_them(enterprise: Api, tokens: Any, database: Any) -> None:
    follower = runner(enterprise.client, tokens)
    begun = follower.after
    added = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    patch(enterprise, added, enabled=False)
    enterprise.plan("pro")
    answer = follower.asks()
    logged = database.rows("SELECT payload FROM registry.log WHERE seq > %s ORDER BY seq", begun)
    assert answer.json()["changes"] == [json.loads(payload) for (payload,) in logged]
    assert [change["kind"] for change in answer.json()["changes"]] == ["credential", "credential", "plan"]
    assert (answer.json()["next_after"], answer.json()["more"]) == (answer.json()["changes"][-1]["seq"], False)
    assert CANARY not in answer.text


def test_a_rotation_is_told_though_it_leaves_the_intervals_alone(enterprise: Api, tokens: Any) -> None:
    added = enterprise.add(enterprise.admin, "organization", enterprise.org).json()
    follower = runner(enterprise.client, tokens, enterprise.org)
    rotated = {"api_key": "sk-ant-api03-another-another-4321"}
    enterprise.client.post(f"{path_of(added)}/rotate", json=rotated, headers=enterprise.admin).raise_for_status()
    (change,) = follower.hears()
    assert (change["credential_id"], change["hint"]) == (added["credential_id"], "…4321")
    assert [span["to"] for span in change["active"]] == [None]


def test_of_cards_and_names_of_models_only_that_they_came(enterprise: Api, tokens: Any) -> None:
    follower = Runner(enterprise.client, tokens.service("credentials:lease", enterprise.org))
    follower.after = 0
    names = {"provider": "openai", "aliases": {f"of-{enterprise.org}": "gpt-5.4"}}
    enterprise.client.post("/v1/models/aliases", json=names, headers=enterprise.platform).raise_for_status()
    told = follower.hears()
    while more := follower.hears():
        told += more
    notices = [change for change in told if change["kind"] in {"rate_card", "model_aliases"}]
    assert all(change.keys() == {"seq", "kind", "changed_at", "name"} for change in notices)
    assert {("rate_card", "2026-04-27"), ("model_aliases", "openai")} <= {(c["kind"], c["name"]) for c in notices}


def test_each_hears_of_its_own_organization_and_who_is_good_for_all_of_all(
    enterprise: Api, tokens: Any, client: Any
) -> None:
    own, all_of_them = runner(client, tokens, enterprise.org), runner(client, tokens)
    other = Api(client, tokens, f"other-of-{enterprise.org}")
    other.plan("pro")
    enterprise.plan("pro")
    assert [change["org_id"] for change in own.hears()] == [enterprise.org]
    assert [change["org_id"] for change in all_of_them.hears()] == [other.org, enterprise.org]
    assert own.after == all_of_them.after
    other.plan("free")
    assert own.hears() == []
    # It has seen that there is nothing for it.
    assert own.after == all_of_them.after + 1


def test_page_by_page_nothing_is_missed_or_repeated(enterprise: Api, tokens: Any) -> None:
    follower, whole = runner(enterprise.client, tokens), runner(enterprise.client, tokens)
    for plan in ("pro", "free", "pro", "free", "pro"):
        enterprise.plan(plan)
    pages = [follower.asks(limit=2).json()]
    while pages[-1]["more"]:
        follower.after = pages[-1]["next_after"]
        pages.append(follower.asks(limit=2).json())
    assert [len(page["changes"]) for page in pages] == [2, 2, 1]
    assert [change for page in pages for change in page["changes"]] == whole.hears()


def test_one_request_looks_through_a_bounded_part_of_the_log(enterprise: Api, tokens: Any, database: Any) -> None:
    follower = runner(enterprise.client, tokens, enterprise.org)
    enterprise.plan("pro")
    (head,) = database.rows("SELECT last_seq FROM registry.log_head")[0]
    database.rows(
        """WITH new AS (INSERT INTO registry.log SELECT seq + n, 'plan:others',
             convert_to(jsonb_build_object('seq', seq + n, 'kind', 'plan', 'changed_at', changed_at,
                                           'org_id', 'others', 'plans', '[]'::jsonb)::text, 'UTF8'),
             changed_at + n * interval '1 microsecond'
           FROM registry.log, generate_series(1, 1500) AS n WHERE seq = %s RETURNING seq, changed_at)
           UPDATE registry.log_head SET last_seq = seq, last_at = changed_at FROM new WHERE seq = %s RETURNING 1""",
        head,
        head + 1500,
    )
    first = follower.asks().json()
    assert ([change["seq"] for change in first["changes"]], first["more"]) == ([head], True)
    follower.after = head
    # There is more, so it does not wait for what comes next, and goes on behind what is none of its business.
    second = follower.asks(wait=30).json()
    assert (second["changes"], second["more"]) == ([], True)
    assert first["next_after"] <= second["next_after"] < head + 1500
    follower.after = second["next_after"]
    assert follower.asks().json() == {"changes": [], "next_after": head + 1500, "more": False}


def test_a_log_that_does_not_reach_so_far_says_to_begin_anew(enterprise: Api, tokens: Any, database: Any) -> None:
    follower = runner(enterprise.client, tokens)
    follower.after = (follower.after or 0) + 1
    noted = "SELECT count(*) FROM registry.audit"
    before = database.rows(noted)
    told = refused(follower.asks(wait=30), 409, "ahead_of_log")
    assert "Drop all leases" in told["detail"]
    # Every runner is told so at once, and does nothing wrong.
    assert database.rows(noted) == before


@pytest.mark.parametrize(
    ("field", "value"), [("after", -1), ("after", 2**63), ("wait", 31), ("wait", "nan"), ("wait", -1), ("limit", 0)]
)
@pytest.mark.slow
def test_a_question_that_makes_no_sense(enterprise: Api, tokens: Any, field: str, value: object) -> None:
    follower = Runner(enterprise.client, tokens.service("credentials:lease"))
    names_field(follower.asks(**{field: value}), field)


def test_it_is_for_those_who_lease(enterprise: Api, tokens: Any) -> None:
    for headers in (enterprise.admin, tokens.service("credentials:write plans:write")):
        refused(Runner(enterprise.client, headers).asks(), 403, "insufficient_scope")
    query = {"action": "changes.follow", "org_id": enterprise.org}
    rows = enterprise.client.get("/v1/audit", params=query, headers=enterprise.admin).json()["items"]
    assert [(row["outcome"], row["code"]) for row in rows] == [("refused", "insufficient_scope")]


# --- waiting ----------------------------------------------------------------------------------------------------------


class Crowd:
    """A served registry, and many who ask it at once."""

    def __init__(self, app: Any, url: str) -> None:
        self.watch, self.url = app.state.watch, url
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, limits=httpx.Limits(max_connections=500))
        self._threads = ThreadPoolExecutor(200)

    def wait(self, follower: Runner, *, seconds: float = 30) -> Future[httpx.Response]:
        """Have it wait for what comes next."""
        return self._threads.submit(follower.asks, wait=seconds)

    def until(self, waiting: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Until so many wait."""
        wait_for(f"{waiting} to wait", lambda: self.watch.waiting == waiting, seconds)

    def close(self) -> None:
        self._threads.shutdown()
        self.http.close()


def app_on(registry: Registry, dsn_of: Any, settings_for: Any, waits: int) -> Any:
    verifier, limits = TokenVerifier(settings_for(dsn_of)), CallLimits(RateLimit(1e6, 10**6), RateLimit(1e6, 10**6))
    metrics = registry_metrics(registry.sessions)
    return registry_app(registry, verifier, metrics, {}, limits._replace(waits=waits), BODIES)


@contextmanager
def crowd_at(app: Any) -> Iterator[Crowd]:
    with served(app) as url:
        crowd = Crowd(app, url)
        yield crowd
    crowd.close()


@pytest.fixture
def crowd(registry: Registry, database: Any, settings_for: Any) -> Iterator[Crowd]:
    with crowd_at(app_on(registry, database, settings_for, 150)) as crowd:
        yield crowd


def told(answer: Future[httpx.Response]) -> list[str]:
    """The organizations that somebody who waited heard of."""
    response = answer.result(PATIENCE_SECONDS)
    assert response.status_code == 200, response.text
    return [change["org_id"] for change in response.json()["changes"]]


@pytest.mark.slow
def test_who_waits_hears_of_the_next_change_that_concerns_it(enterprise: Api, tokens: Any, crowd: Crowd) -> None:
    own, all_of_them = runner(crowd.http, tokens, enterprise.org), runner(crowd.http, tokens)
    others = Api(enterprise.client, tokens, f"others-of-{enterprise.org}")
    waiting = crowd.wait(own), crowd.wait(all_of_them)
    crowd.until(2)
    others.plan("pro")
    assert told(waiting[1]) == [others.org]
    assert not waiting[0].done()
    crowd.until(1)
    enterprise.plan("pro")
    assert told(waiting[0]) == [enterprise.org]
    # What it was not told of lies behind it, too.
    assert waiting[0].result().json()["next_after"] == waiting[1].result().json()["next_after"] + 1
    crowd.until(0)


def test_who_waits_in_vain_is_told_where_to_go_on(enterprise: Api, tokens: Any, crowd: Crowd) -> None:
    own, others = runner(crowd.http, tokens, enterprise.org), Api(enterprise.client, tokens, f"x-{enterprise.org}")
    begun = own.after
    answer = crowd.wait(own, seconds=2)
    crowd.until(1)
    others.plan("pro")
    assert told(answer) == []
    assert answer.result().json() == {"changes": [], "next_after": (begun or 0) + 1, "more": False}


@pytest.mark.slow
def test_waiting_takes_no_thread_and_no_connection(enterprise: Api, tokens: Any, crowd: Crowd, database: Any) -> None:
    """More wait than there are threads for requests (40) and connections to the database (10)."""
    enterprise.add(enterprise.admin, "organization", enterprise.org)
    begun = runner(crowd.http, tokens)
    waiting = [crowd.wait(begun) for _ in range(120)]
    crowd.until(120)
    leased = crowd.http.post(
        "/v1/lease",
        json={"org_id": enterprise.org, "user_id": "uma", "provider": "openai"},
        headers=enterprise.platform,
    )
    assert leased.json()["secret"] == CANARY
    in_use = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
    wait_for("connections to be given back", lambda: database.rows(in_use) == [(0,)])
    enterprise.plan("pro")
    assert {tuple(told(answer)) for answer in waiting} == {(enterprise.org,)}


def test_beyond_its_bound_nobody_waits_and_all_may_ask(
    enterprise: Api, tokens: Any, registry: Registry, database: Any, settings_for: Any
) -> None:
    with crowd_at(app_on(registry, database, settings_for, 4)) as crowd:
        own, all_of_them = runner(crowd.http, tokens, enterprise.org), runner(crowd.http, tokens)
        # Half of the places is what one organization may take.
        waiting = [crowd.wait(own) for _ in range(2)]
        crowd.until(2)
        refused(own.asks(wait=30), 503, "busy")
        waiting += [crowd.wait(all_of_them) for _ in range(2)]
        crowd.until(4)
        answer = all_of_them.asks(wait=30)
        refused(answer, 503, "busy")
        assert answer.headers["retry-after"] == "5"
        assert all_of_them.hears() == []
        enterprise.plan("pro")
        assert [told(answer) for answer in waiting] == [[enterprise.org]] * 4


@pytest.mark.slow
def test_who_goes_away_leaves_its_place(enterprise: Api, tokens: Any, crowd: Crowd) -> None:
    begun = runner(crowd.http, tokens)
    address = urlsplit(crowd.url)
    with socket.create_connection((address.hostname, address.port)) as impatient:
        lines = [f"GET /v1/changes?after={begun.after}&wait=30 HTTP/1.1", "Host: registry"]
        impatient.sendall("\r\n".join([*lines, *map(": ".join, begun.headers.items()), "", ""]).encode())
        crowd.until(1)
    # Long before it would have been answered.
    crowd.until(0, 15)
    # And nobody looks at the log in vain.
    assert crowd.watch._looking is None


def test_at_its_end_the_service_answers_all_who_wait(
    enterprise: Api, tokens: Any, registry: Registry, database: Any, settings_for: Any
) -> None:
    with crowd_at(app_on(registry, database, settings_for, 10)) as crowd:
        begun = runner(crowd.http, tokens)
        waiting = [crowd.wait(begun) for _ in range(3)]
        crowd.until(3)
    assert [told(answer) for answer in waiting] == [[], [], []]


@pytest.mark.slow
def test_nobody_who_waits_takes_an_outage_for_silence(
    new_database: Callable[[], Any], kek_file: Any, tokens: Any, settings_for: Any, postgres: Any
) -> None:
    database = new_database()
    engine = open_engine(database.dsn)
    registry = Registry(sessions_on(engine), load_keyring(kek_file))
    name = database.dsn.rpartition("/")[2]
    with crowd_at(app_on(registry, database, settings_for, 10)) as crowd:
        waiting = crowd.wait(runner(crowd.http, tokens))
        crowd.until(1)
        with postgres[0].connect() as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
            answer = waiting.result(PATIENCE_SECONDS)
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        refused(answer, 503, "database_unavailable")
        assert answer.headers["retry-after"] == "2"
        # The next one is told again.
        begun = runner(crowd.http, tokens)
        again = crowd.wait(begun)
        crowd.until(1)
        platform = tokens.service("plans:write")
        crowd.http.put("/v1/organizations/back/plan", json={"plan": "pro"}, headers=platform).raise_for_status()
        assert told(again) == ["back"]
    engine.dispose()
