"""The feed over HTTP: nothing missed, nothing twice, whoever asks and however long it waits, also after a restore."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from fastapi.testclient import TestClient

from services.ledger.main import build_app
from tests.integration.ledger.ledger_seed import COLUMNS
from tests.patience import PATIENCE_SECONDS

FEED = "/v1/entries"
# Who is not woken is answered at the end of its wait, after 30 s.
WOKEN_SECONDS = 25


def pages(client, headers, after=0, limit=7):
    """Every page until nothing is new."""
    while True:
        answer = client.get(FEED, params={"after": after, "limit": limit}, headers=headers)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        if answer.json()["next_position"] == after:
            return
        after = answer.json()["next_position"]


def entries(*args, **more):
    return [entry for page in pages(*args, **more) for entry in page["entries"]]


def test_pages_hold_every_entry_once_in_the_order_of_places(client, company, place, reader):
    assert client.get(FEED, headers=reader).json() == {"entries": [], "next_position": 0, "void_after": None}
    placed = place()
    found = entries(client, reader)
    assert [entry["position"] for entry in found] == list(range(1, placed + 1))
    assert {entry["org_id"] for entry in found} == {"acme", "other"}
    assert sorted(entry["entry_id"] for entry in found) == sorted(str(row["entry_id"]) for row in company.rows())
    assert set(found[0]) == {"position", *COLUMNS}
    assert found[0]["recorded_at"].endswith("Z")
    company.book("one-more")
    assert client.get(FEED, params={"after": placed}, headers=reader).json()["entries"] == []
    place()
    page = client.get(FEED, params={"after": placed}, headers=reader).json()
    assert ([entry["event_id"] for entry in page["entries"]], page["next_position"]) == (["one-more"], placed + 1)


def test_a_token_of_one_organization_is_shown_that_one_and_passes_by_the_others(client, company, place, bearer):
    for number in range(30):
        company.book(f"more-{number}", org_id="other" if number % 10 else "acme")
    place()
    for org_id in ("acme", "other"):
        found = entries(client, bearer(scope="ledger:read", org_id=org_id), limit=3)
        ours = [str(row["entry_id"]) for row in company.rows("org_id = %s", org_id)]
        assert sorted(entry["entry_id"] for entry in found) == sorted(ours)
        assert {entry["org_id"] for entry in found} == {org_id}
    assert entries(client, bearer(scope="ledger:read", org_id="nobody")) == []


def test_what_is_others_is_passed_by_in_bounded_parts(client, company, place, bearer, monkeypatch):
    monkeypatch.setattr("services.ledger.handlers._LOOKED_AT_MAX", 10)
    company.book("the-last")
    placed = place()
    found = list(pages(client, bearer(scope="ledger:read", org_id="other"), limit=1_000))
    assert [page["next_position"] for page in found[:2]] == [10, 20]
    assert found[-1]["next_position"] == placed
    assert sum(len(page["entries"]) for page in found) == 5
    # Whoever waits is not shown pages on the way.
    with_wait = {"wait": 20, "limit": 1}
    page = client.get(FEED, params=with_wait, headers=bearer(scope="ledger:read", org_id="other")).json()
    assert [entry["org_id"] for entry in page["entries"]] == ["other"]


def test_it_is_for_services_that_may_read_the_ledger(client, company, place, bearer):
    place()
    for claims in (
        {"scope": "usage:write"},
        {"org_id": "acme", "org_role": "admin"},
        {"org_id": "acme", "org_role": "member", "teams": {"red": "admin"}},
        {"org_id": "*", "org_role": "admin"},
    ):
        answer = client.get(FEED, headers=bearer(**claims))
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert client.get(FEED).status_code == 401


@pytest.mark.parametrize(
    "wrong", [{"after": -1}, {"after": 2**63}, {"limit": 0}, {"limit": 1_001}, {"wait": 31}, {"wait": "nan"}, {"x": 1}]
)
def test_what_makes_no_sense_is_refused(client, reader, wrong):
    answer = client.get(FEED, params=wrong, headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_the_greatest_numbers_there_are_are_taken(client, company, place, reader):
    place()
    answer = client.get(FEED, params={"after": 2**63 - 1, "limit": 1_000}, headers=reader)
    assert answer.status_code == 200


def test_who_waits_is_told_as_soon_as_something_is_new(client, company, place, reader, bearer):
    last = place()
    told = {}

    def ask(name, headers):
        told[name] = client.get(FEED, params={"after": last, "wait": 30}, headers=headers).json()

    waiting = [
        threading.Thread(target=ask, args=("everywhere", reader)),
        threading.Thread(target=ask, args=("other", bearer(scope="ledger:read", org_id="other"))),
    ]
    for thread in waiting:
        thread.start()
    company.book("while-it-waits")
    place()
    waiting[0].join(WOKEN_SECONDS)
    assert [entry["event_id"] for entry in told["everywhere"]["entries"]] == ["while-it-waits"]
    assert "other" not in told
    company.book("of-the-other", org_id="other")
    place()
    waiting[1].join(WOKEN_SECONDS)
    assert [entry["event_id"] for entry in told["other"]["entries"]] == ["of-the-other"]
    assert told["other"]["next_position"] == last + 2


def test_where_nothing_comes_the_wait_ends_with_the_position_as_it_was(client, company, place, reader):
    last = place()
    began = time.monotonic()
    page = client.get(FEED, params={"after": last, "wait": 0.5}, headers=reader).json()
    assert page == {"entries": [], "next_position": last, "void_after": None}
    assert time.monotonic() - began >= 0.5


def test_who_waits_holds_neither_a_connection_nor_a_thread(client, company, place, reader):
    """More wait than there are threads and connections together, and the service answers all the same."""
    last = place()
    waiting = [
        threading.Thread(
            target=client.get, args=(FEED,), kwargs={"params": {"after": last, "wait": 10}, "headers": reader}
        )
        for _ in range(60)
    ]
    for thread in waiting:
        thread.start()
    assert client.get("/v1/organizations/acme/summary", headers=reader).status_code == 200
    company.book("ends-it")
    place()
    for thread in waiting:
        thread.join(PATIENCE_SECONDS)
    assert not any(thread.is_alive() for thread in waiting)


@pytest.fixture
def restored(stack, database, company, place):
    """A copy of the ledger, made when 50 entries or so had places, after which others were booked to the first one."""
    upto = place()
    company.connection.close()
    name = f"{database}_copy"
    with stack.postgres.connect() as admin:
        # As long as a database is copied nobody may be on it.
        admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (database,))
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {database} OWNER ledger_owner")
        admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    company.connection = psycopg.connect(stack.dsn("ledger_owner", database), autocommit=True)
    for number in range(20):
        company.book(f"lost-{number}")
    last = upto + place()
    with TestClient(build_app(stack.settings(name)), base_url="http://ledger.test") as copy:
        yield copy, name, upto, last
    with stack.postgres.connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_loader_that_was_further_than_a_restored_ledger_is_told_and_misses_nothing(
    client, restored, stack, company, place, reader
):
    copy, name, upto, last = restored
    read = {entry["event_id"]: entry["position"] for entry in entries(client, reader)}
    assert max(read.values()) == last
    # Nothing is booked anew yet: it is told, without waiting.
    page = copy.get(FEED, params={"after": last, "wait": 30}, headers=reader).json()
    assert page == {"entries": [], "next_position": upto, "void_after": upto}
    company.connection.close()
    company.connection = psycopg.connect(stack.dsn("ledger_owner", name), autocommit=True)
    # One that was lost is booked again, and one that is new.
    company.book("lost-3")
    company.book("new")
    place(name)
    page = copy.get(FEED, params={"after": last}, headers=reader).json()
    assert [entry["event_id"] for entry in page["entries"]] == ["lost-3", "new"]
    assert page["void_after"] == upto
    # Who went back, and who had read no more than was restored, find the same, and nothing to take back.
    again = copy.get(FEED, params={"after": upto}, headers=reader).json()
    assert (again["entries"], again["void_after"]) == (page["entries"], None)
    on = copy.get(FEED, params={"after": page["next_position"]}, headers=reader).json()
    assert on == {"entries": [], "next_position": page["next_position"], "void_after": None}
