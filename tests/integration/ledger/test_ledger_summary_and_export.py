"""Sums equal SQL's, and files equal the table."""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from services.ledger.query import GROUPS
from tests.integration.ledger.ledger_seed import COLUMNS
from tests.integration.ledger.test_ledger_entries import as_wire


@pytest.fixture
def company(company):
    company.place()
    return company


SUMMARY = "/v1/organizations/acme/summary"
EXPORT = "/v1/organizations/acme/export"
SUMS = ("quantity", "input_tokens", "cached_input_tokens", "output_tokens", "list_mc", "charged_mc", "saved_mc")


def sql_sums(books, expressions, where="true"):
    keys = ", ".join(expressions)
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS)
    events = "count(*) FILTER (WHERE kind <> 'reversal') - count(*) FILTER (WHERE kind = 'reversal')"
    query = f"SELECT {keys}{',' if keys else ''} {events}, {sums} FROM ledger.entries WHERE org_id = 'acme' AND {where}"
    if keys:
        query += f" GROUP BY {keys} ORDER BY {keys}"
    return [
        tuple(int(v) if i >= len(expressions) else v for i, v in enumerate(row))
        for row in books.connection.execute(query).fetchall()
    ]


def as_tuples(groups, names):
    return [tuple(group[name] for name in (*names, "events", *SUMS)) for group in groups]


EXPRESSIONS = {
    "hour": "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24\":00:00+00:00\"')",
    "day": "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "month": "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM')",
}


@pytest.mark.parametrize("name", GROUPS)
def test_sums_by_one_column_are_those_of_sql(client, placed_company, reader, name):
    answer = client.get(SUMMARY, params={"group_by": name}, headers=reader).json()
    assert as_tuples(answer["groups"], [name]) == sql_sums(placed_company, [EXPRESSIONS.get(name, name)])
    assert as_tuples([answer["total"]], []) == sql_sums(placed_company, [])


def test_sums_by_several_columns_and_filters(client, placed_company, reader):
    names = ["month", "provider", "byok_scope", "user_id"]
    query = {"group_by": ",".join(names), "provider": "openai", "to": "2026-05-03T00:00:00Z"}
    answer = client.get(SUMMARY, params=query, headers=reader).json()
    expressions = [EXPRESSIONS.get(name, name) for name in names]
    where = "provider = 'openai' AND occurred_at < '2026-05-03T00:00:00Z'"
    assert as_tuples(answer["groups"], names) == sql_sums(placed_company, expressions, where)


def test_without_groups_there_is_one_total(client, placed_company, reader):
    answer = client.get(SUMMARY, headers=reader).json()
    assert len(answer["groups"]) == 1
    assert answer["groups"][0] == answer["total"]
    # 44 events; the reversal and the correction of one of them make no event more.
    assert answer["total"]["events"] == 44


def test_a_correction_moves_the_event_to_the_group_of_the_truth(client, placed_company, reader):
    query = {"group_by": "key_source", "user_id": "dan"}
    groups = client.get(SUMMARY, params=query, headers=reader).json()["groups"]
    platform, own = {group["key_source"]: group for group in groups}["platform"], groups[0]
    assert (platform["events"], platform["list_mc"], platform["charged_mc"], platform["quantity"]) == (0, 0, 0, 0)
    assert platform["saved_percent"] is None
    assert (own["events"], own["list_mc"], own["charged_mc"]) == (1, 40_000_000, 2_000_000)
    assert own["saved_percent"] == "95.00"


def test_an_empty_selection_has_a_total_of_nothing(client, placed_company, reader):
    answer = client.get(SUMMARY, params={"user_id": "nobody", "group_by": "day"}, headers=reader).json()
    assert answer["groups"] == []
    assert answer["total"]["list_mc"] == 0
    assert answer["total"]["saved_percent"] is None


def test_members_sum_what_they_may_see(client, placed_company, bearer):
    headers = bearer("ann", org_id="acme", org_role="member", teams={"blue": "admin"})
    answer = client.get(SUMMARY, headers=headers).json()
    assert as_tuples([answer["total"]], []) == sql_sums(placed_company, [], "(user_id = 'ann' OR team_id = 'blue')")


def test_sums_beyond_64_bits_are_exact(client, placed_company, place, reader):
    placed_company.connection.execute(
        "INSERT INTO ledger.entry SELECT gen_random_uuid(), kind, revision, adjusts, 'big', team_id, user_id,"
        " event_source, event_id || n, event_type, occurred_at, recorded_at, run_id, agent_id, workflow_id,"
        " parent_run_id, node, tool, succeeded, provider, model, tier, quantity, input_tokens, cached_input_tokens,"
        " output_tokens, claim_source, claim_credential_id, key_source, byok_scope, credential_id, reason, flags,"
        " 9000000000000000001, 9000000000000000001, 0, rate_card, registry_seq, caused_by_seq, payload_hash,"
        " source_partition_id, source_offset, source_index FROM ledger.entry, generate_series(1, 3) n"
        " WHERE event_id = 'e0'"
    )
    place()
    total = client.get("/v1/organizations/big/summary", headers=reader).json()["total"]
    assert total["list_mc"] == 27_000_000_000_000_000_003


def test_a_summary_says_up_to_which_position_and_what_waits_is_not_in_it(client, placed_company, place, reader):
    before = client.get(SUMMARY, headers=reader).json()
    placed_company.book("waits", run_id="r-new")
    for query in ({}, {"run_id": "r-new"}):
        answer = client.get(SUMMARY, params=query, headers=reader).json()
        assert answer["position"] == before["position"]
        assert answer["total"]["events"] == (0 if query else before["total"]["events"])
    assert place() == 1
    for query in ({}, {"run_id": "r-new"}):
        answer = client.get(SUMMARY, params=query, headers=reader).json()
        assert answer["position"] == before["position"] + 1
        assert answer["total"]["events"] == (1 if query else before["total"]["events"] + 1)


@pytest.mark.parametrize(
    ("tz", "hour", "day", "month"),
    [
        ("UTC", "2026-05-31T18:00:00+00:00", "2026-05-31", "2026-05"),
        ("Asia/Kathmandu", "2026-06-01T00:00:00+05:45", "2026-06-01", "2026-06"),
        ("America/New_York", "2026-05-31T14:00:00-04:00", "2026-05-31", "2026-05"),
    ],
)
def test_hours_days_and_months_are_those_of_the_reader(client, company, place, reader, tz, hour, day, month):
    company.book("at-night", user_id="eve", occurred_at=datetime(2026, 5, 31, 18, 15, tzinfo=UTC))
    place()
    query = {"group_by": "hour,day,month", "user_id": "eve", "tz": tz}
    (group,) = client.get(SUMMARY, params=query, headers=reader).json()["groups"]
    assert (group["hour"], group["day"], group["month"]) == (hour, day, month)


@pytest.mark.parametrize(
    "tz", ["Mars/Olympus", "europe/berlin", "EST5EDT4", "<+03>-3", "localtime", "posix/UTC", "+02"]
)
def test_a_time_zone_that_nobody_knows_is_refused_and_named(client, reader, tz):
    answer = client.get(SUMMARY, params={"tz": tz}, headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_time_zone")
    assert [error["field"] for error in answer.json()["errors"]] == ["tz"]


def test_an_unknown_group_is_refused(client, reader):
    for text in ("colour", "day,day;drop", "entry_id", ","):
        response = client.get(SUMMARY, params={"group_by": text}, headers=reader)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_group"), text


def test_more_groups_than_can_be_given_are_refused(client, placed_company, reader, monkeypatch):
    monkeypatch.setattr("services.ledger.handlers.GROUPS_MAX", 3)
    assert client.get(SUMMARY, params={"group_by": "team_id"}, headers=reader).status_code == 422
    response = client.get(SUMMARY, params={"group_by": "run_id"}, headers=reader)
    assert response.json()["code"] == "too_many_groups"
    assert len(client.get(SUMMARY, params={"group_by": "kind"}, headers=reader).json()["groups"]) == 3


def test_json_lines_are_the_table(client, company, reader):
    response = client.get(EXPORT, params={"format": "jsonl"}, headers=reader)
    expected = company.rows("org_id = 'acme'", order="occurred_at, entry_id")
    assert [json.loads(line) for line in response.text.splitlines()] == [as_wire(row) for row in expected]


def test_csv_is_the_table_and_no_cell_is_a_formula(client, company, reader):
    response = client.get(EXPORT, params={"format": "csv"}, headers=reader)
    assert response.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(response.text, newline="")))
    expected = company.rows("org_id = 'acme'", order="occurred_at, entry_id")
    assert list(lines[0]) == COLUMNS
    for line, row in zip(lines, map(as_wire, expected), strict=True):
        for name, value in row.items():
            text = ";".join(value) if isinstance(value, list) else "" if value is None else str(value)
            assert line[name] == (f"'{text}" if name == "tool" and text else text), name
    reversal = next(line for line in lines if line["kind"] == "reversal")
    assert int(reversal["list_mc"]) == -40_000_000
    assert [line["tool"] for line in lines if line["tool"]] == ["'=cmd|' /C calc'!A0"]


def test_an_export_is_filtered_and_narrowed_like_entries(client, company, bearer):
    member = bearer("ann", org_id="acme", org_role="member")
    response = client.get(EXPORT, params={"format": "jsonl", "team_id": "red"}, headers=member)
    users = {json.loads(line)["user_id"] for line in response.text.splitlines()}
    assert users == {"ann"}


def test_an_empty_export_is_whole(client, company, reader):
    empty = {"user_id": "nobody"}
    assert client.get(EXPORT, params=empty | {"format": "jsonl"}, headers=reader).text == ""
    assert client.get(EXPORT, params=empty | {"format": "csv"}, headers=reader).text == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize("query", [{}, {"format": "xlsx"}, {"format": "csv", "limit": "3"}])
def test_an_export_that_cannot_be_made_is_422(client, reader, query):
    assert client.get(EXPORT, params=query, headers=reader).status_code == 422


def test_only_so_many_exports_run_at_once_and_each_gives_its_place_back(client, company, reader, app):
    for _ in range(10):
        assert client.get(EXPORT, params={"format": "csv"}, headers=reader).status_code == 200
    slots = app.state.handlers._exports.slots
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(slots.taken("acme"))
        response = client.get(EXPORT, params={"format": "csv"}, headers=reader)
        assert (response.status_code, response.json()["code"]) == (503, "busy")
        assert response.headers["retry-after"]
        assert client.get(EXPORT.replace("acme", "globex"), params={"format": "csv"}, headers=reader).status_code == 200
    assert client.get(EXPORT, params={"format": "csv"}, headers=reader).status_code == 200
