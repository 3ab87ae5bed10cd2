"""Statements of a month: the sums of the ledger, up to a position, and what came since an earlier one."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.integration.ledger.export_seed import seed_every_kind
from tests.integration.ledger.ledger_seed import at

STATEMENT = "/v1/organizations/acme/statement"
SUMMARY = "/v1/organizations/acme/summary"
GROUPS = ("provider", "model", "key_source", "team_id")
AMOUNTS = ("events", "list_mc", "charged_mc", "saved_mc")


@pytest.fixture
def company(books):
    seed_every_kind(books)
    books.place()
    return books


def statement(client, headers, **query):
    answer = client.get(STATEMENT, params={"month": "2026-05", **query}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sql(books, where):
    sums = "sum(CASE kind WHEN 'reversal' THEN -1 ELSE 1 END), sum(list_mc), sum(charged_mc), sum(saved_mc)"
    query = f"SELECT {', '.join(GROUPS)}, {sums} FROM ledger.entry_feed WHERE org_id = 'acme' AND {where}"
    rows = books.connection.execute(f"{query} GROUP BY 1, 2, 3, 4").fetchall()
    return {row[:4]: tuple(map(int, row[4:])) for row in rows}


def lines(part):
    return {tuple(line[name] for name in GROUPS): tuple(line[name] for name in AMOUNTS) for line in part["lines"]}


def total(part):
    return tuple(part["total"][name] for name in AMOUNTS)


MAY = "occurred_at >= '2026-05-01Z' AND occurred_at < '2026-06-01Z'"


def test_lines_and_total_are_the_months_of_the_ledger_and_of_the_summary(client, company, reader):
    found = statement(client, reader)
    assert lines(found) == sql(company, MAY)
    month = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
    summary = client.get(SUMMARY, params=month | {"group_by": ",".join(GROUPS)}, headers=reader).json()
    assert (found["lines"], found["total"]) == (summary["groups"], summary["total"])
    assert (found["from"], found["to"], found["month_over"]) == (month["from"], month["to"], True)
    assert (found["org_id"], found["issuer"], found["tz"], found["since"]) == ("acme", "BYOK", "UTC", None)
    newest = company.connection.execute("SELECT max(position) FROM ledger.entry_feed").fetchone()[0]
    assert found["position"] == newest
    assert datetime.fromisoformat(found["made_at"]).tzinfo is not None


def test_it_counts_what_has_its_place_and_nothing_else(client, company, reader):
    before = statement(client, reader)
    company.book("waits")
    again = statement(client, reader)
    assert (again["total"], again["position"]) == (before["total"], before["position"])
    company.place()
    assert statement(client, reader)["total"]["events"] == before["total"]["events"] + 1


def test_what_came_since_an_earlier_statement_is_told_apart_by_its_month(client, company, reader):
    june = statement(client, reader, month="2026-06")
    company.book("late for may", occurred_at=at(days=20), calls=2)
    company.book("in june", occurred_at=at(days=35))
    company.book("in july", occurred_at=at(days=65))
    company.book("late, with a key", team_id="red", occurred_at=at(days=5))
    company.place()
    again = statement(client, reader, month="2026-06", since=june["position"])
    since, after = again["since"], f"position > {june['position']}"
    assert since["position"] == june["position"]
    june_of = "occurred_at >= '2026-06-01Z' AND occurred_at < '2026-07-01Z'"
    assert lines(since["this_month"]) == sql(company, f"{june_of} AND {after}")
    assert lines(since["earlier_months"]) == sql(company, f"occurred_at < '2026-06-01Z' AND {after}")
    assert {line["month"] for line in since["earlier_months"]["lines"]} == {"2026-05"}
    for name in AMOUNTS:
        changed = again["total"][name] - june["total"][name]
        assert changed == since["this_month"]["total"][name]
    unmoved = statement(client, reader, month="2026-06", since=again["position"])["since"]
    assert unmoved["this_month"]["lines"] == unmoved["earlier_months"]["lines"] == []


def test_a_correction_shows_what_it_moved_from_one_line_to_another(client, company, reader):
    before = statement(client, reader)
    entry = company.book("will be corrected", user_id="fay", team_id="gold", occurred_at=at(days=6))
    company.place()
    between = statement(client, reader, since=before["position"])
    company.credential("k-fay", "acme", "personal", "fay")
    company.correct(entry)
    company.place()
    since = statement(client, reader, since=between["position"])["since"]["this_month"]
    moved = {line["key_source"]: (line["events"], line["charged_mc"]) for line in since["lines"]}
    assert moved == {"platform": (-1, -20_000_000), "byok": (1, 1_000_000)}
    assert total(since)[0] == 0


def test_a_month_is_one_of_the_readers_time_zone(client, company, reader):
    company.book("in Berlin it is june", occurred_at=datetime(2026, 5, 31, 22, 30, tzinfo=UTC), user_id="may")
    company.book("in Berlin it was april", occurred_at=datetime(2026, 4, 30, 21, 59, tzinfo=UTC), user_id="may")
    company.place()
    for zone, where in {
        "UTC": MAY,
        "Europe/Berlin": "occurred_at >= '2026-04-30 22:00Z' AND occurred_at < '2026-05-31 22:00Z'",
        "Asia/Kolkata": "occurred_at >= '2026-04-30 18:30Z' AND occurred_at < '2026-05-31 18:30Z'",
    }.items():
        assert lines(statement(client, reader, tz=zone)) == sql(company, where), zone
    berlin = statement(client, reader, month="2026-06", tz="Europe/Berlin", since=0)["since"]
    assert {line["month"] for line in berlin["earlier_months"]["lines"]} == {"2026-04", "2026-05"}


def test_the_csv_says_the_same_and_no_cell_is_a_formula(client, company, reader):
    company.book("another formula", user_id="ann", team_id="=1+1")
    company.place()
    query = {"month": "2026-05", "format": "csv", "since": 3}
    answer = client.get(STATEMENT, params=query, headers=reader)
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="statement-2026-05.csv"' in answer.headers["content-disposition"]
    found = statement(client, reader, since=3)
    assert answer.headers["byok-position"] == str(found["position"])
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    parts = {"usage": found, "since_this_month": found["since"]["this_month"]}
    parts["since_earlier_months"] = found["since"]["earlier_months"]
    for name, part in parts.items():
        of_part = [row for row in rows if row["section"] == name]
        assert [int(Decimal(row["charged_credits"]) * 10**6) for row in of_part] == [
            line["charged_mc"] for line in part["lines"]
        ]
        (summed,) = [row for row in rows if row["section"] == f"{name}_total"]
        assert Decimal(summed["list_credits"]) * 10**6 == part["total"]["list_mc"]
    assert "'=1+1" in {row["team_id"] for row in rows}


def test_it_is_for_those_who_see_all_of_the_organization(client, company, bearer):
    query = {"month": "2026-05"}
    member = bearer("ann", org_id="acme", org_role="member", teams={"red": "admin"})
    others = bearer("ann", org_id="other", org_role="admin")
    for headers, code in [
        (member, "insufficient_scope"),
        (others, "organization_forbidden"),
        (bearer(scope="usage:write"), "insufficient_scope"),
    ]:
        answer = client.get(STATEMENT, params=query, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert (
        client.get(STATEMENT, params=query, headers=bearer("ann", org_id="acme", org_role="admin")).status_code == 200
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"month": "2026-13"},
        {"month": "may"},
        {"tz": "Mars/Olympus"},
        {"tz": "../../etc/passwd"},
        {"tz": ""},
        {"since": -1},
        {"format": "xlsx"},
        {"team_id": "red"},
    ],
)
def test_what_makes_no_sense_is_refused(client, reader, wrong):
    answer = client.get(STATEMENT, params={"month": "2026-05"} | wrong, headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_too_many_lines_and_a_position_that_was_lost_are_refused(client, company, reader, monkeypatch):
    answer = client.get(STATEMENT, params={"month": "2026-05", "since": 10**15}, headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (409, "ahead_of_ledger")
    monkeypatch.setattr("services.ledger.handlers.GROUPS_MAX", 2)
    answer = client.get(STATEMENT, params={"month": "2026-05"}, headers=reader)
    assert answer.json()["code"] == "too_many_groups"
