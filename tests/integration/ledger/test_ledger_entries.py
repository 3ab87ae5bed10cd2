"""Entries over HTTP: pages, filters, and who may see what (invariant I8)."""

from __future__ import annotations

import pytest

from tests.integration.ledger.ledger_seed import COLUMNS, at

ENTRIES = "/v1/organizations/acme/entries"


def pages(client, headers, url=ENTRIES, **query):
    """All entries, page by page."""
    found, cursor = [], None
    while True:
        page = client.get(url, params=query | ({"cursor": cursor} if cursor else {}), headers=headers)
        assert page.status_code == 200, page.text
        found += page.json()["entries"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return found
        assert len(page.json()["entries"]) == query.get("limit", 100)
        assert len(found) <= 1_000, "the pages never end"


def as_wire(row):
    """A row of the view as the API writes it."""
    times = {name: row[name].isoformat().replace("+00:00", "Z") for name in ("occurred_at", "recorded_at")}
    ids = {name: row[name] and str(row[name]) for name in ("entry_id", "adjusts")}
    return row | times | ids


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_pages_to_exhaustion_are_the_table(client, company, reader, limit, order):
    rows = company.rows("org_id = 'acme'")
    expected = [as_wire(row) for row in (rows if order == "desc" else reversed(rows))]
    assert len(expected) == 46
    assert pages(client, reader, limit=limit, order=order) == expected


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_back_are_the_pages_forth(client, company, reader, order):
    def page(cursor):
        query = {"limit": 7, "order": order, **({"cursor": cursor} if cursor else {})}
        return client.get(ENTRIES, params=query, headers=reader).json()

    forth = [page(None)]
    while forth[-1]["next_cursor"]:
        forth.append(page(forth[-1]["next_cursor"]))
    assert forth[0]["previous_cursor"] is None
    back = [forth[-1]]
    while back[-1]["previous_cursor"]:
        back.append(page(back[-1]["previous_cursor"]))
    assert [one["entries"] for one in reversed(back)] == [one["entries"] for one in forth]
    assert page(back[-1]["next_cursor"])["entries"] == forth[1]["entries"]


def test_entries_that_have_none_of_something(client, company, reader):
    found = pages(client, reader, without="team_id,provider")
    assert found == [as_wire(row) for row in company.rows("org_id = 'acme' AND team_id IS NULL AND provider IS NULL")]
    assert found
    for wrong in ({"without": "user_id"}, {"without": "team_id", "team_id": "red"}, {"without": ""}):
        assert client.get(ENTRIES, params=wrong, headers=reader).status_code == 422


def test_an_entry_has_the_columns_of_the_contract_with_whole_numbers_and_z_times(client, company, reader):
    entry = client.get(ENTRIES, params={"event_id": "tokens"}, headers=reader).json()["entries"][0]
    assert list(entry) == COLUMNS
    assert entry["occurred_at"] == "2026-05-02T12:00:00Z"
    assert all(type(entry[name]) is int for name in ("list_mc", "charged_mc", "saved_mc", "input_tokens", "revision"))


def test_entries_that_arrive_between_pages_do_not_disturb_them(client, company, reader):
    first = client.get(ENTRIES, params={"limit": 10}, headers=reader).json()
    company.book("newer", occurred_at=at(days=100))
    rest = pages(client, reader, limit=10, cursor=first["next_cursor"])
    ids = [entry["event_id"] for entry in first["entries"] + rest]
    assert len(ids) == 46
    assert "newer" not in ids


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"user_id": "bob"}, "user_id = 'bob'"),
        ({"team_id": "red"}, "team_id = 'red'"),
        ({"provider": "openai"}, "provider = 'openai'"),
        ({"model": "gpt-4.1"}, "model = 'gpt-4.1'"),
        ({"event_type": "usage.tool_call.v1"}, "event_type = 'usage.tool_call.v1'"),
        ({"key_source": "byok"}, "key_source = 'byok'"),
        ({"byok_scope": "team"}, "byok_scope = 'team'"),
        ({"credential_id": "k-ann"}, "credential_id = 'k-ann'"),
        ({"run_id": "r1"}, "run_id = 'r1'"),
        ({"agent_id": "agent-1"}, "agent_id = 'agent-1'"),
        ({"workflow_id": "w1"}, "workflow_id = 'w1'"),
        ({"kind": "reversal"}, "kind = 'reversal'"),
        ({"reason": "no_credential"}, "reason = 'no_credential'"),
        ({"rate_card": "2026-04-27"}, "rate_card = '2026-04-27'"),
        ({"event_source": "runner/1", "event_id": "e3"}, "event_id = 'e3'"),
        ({"from": "2026-05-01T14:00:03.000003+02:00"}, "occurred_at >= '2026-05-01T12:00:03.000003Z'"),
        ({"to": "2026-05-01T12:00:03.000003Z"}, "occurred_at < '2026-05-01T12:00:03.000003Z'"),
        ({"kind": "charge", "user_id": "nobody"}, "false"),
    ],
)
def test_each_filter_is_the_sql_condition(client, company, reader, query, where):
    expected = [as_wire(row) for row in company.rows(f"org_id = 'acme' AND {where}")]
    assert expected or where == "false"
    assert pages(client, reader, limit=5, **query) == expected


def test_a_flag_is_found_among_others(client, company, reader):
    from services.domain.usage import Claim

    company.book("claimed", claim=Claim("k-nobody"))
    found = pages(client, reader, flag="credential_claim_rejected")
    assert [entry["event_id"] for entry in found] == ["claimed"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "nonsense"}, "invalid_cursor"),
        ({"cursor": "é"}, "invalid_cursor"),
        ({"cursor": "WzEsMiwzXQ"}, "invalid_cursor"),
        ({"limit": 0}, "invalid_request"),
        ({"limit": 1001}, "invalid_request"),
        ({"from": "2026-05-01T12:00:00"}, "invalid_request"),
        ({"from": "yesterday"}, "invalid_request"),
        ({"user": "ann"}, "invalid_request"),
        ({"user_id": "a\0b"}, "invalid_request"),
        ({"kind": "refund"}, "invalid_request"),
        ({"order": "random"}, "invalid_request"),
    ],
)
def test_a_query_that_cannot_be_used_is_422(client, reader, query, code):
    response = client.get(ENTRIES, params=query, headers=reader)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["user", "my-own-secret-of-no-known-shape", "sk-ant-api03-canary-canary-canary-1234"])
@pytest.mark.parametrize("path", ["entries", "summary", "export"])
def test_a_filter_that_is_unknown_is_refused_and_not_repeated(client, reader, path, name):
    query = {"format": "csv"} if path == "export" else {}
    response = client.get(f"/v1/organizations/acme/{path}", params=query | {name: "ann"}, headers=reader)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == ["query"]
    assert "unknown field" in response.json()["errors"][0]["detail"]
    assert name not in response.text


def test_a_cursor_is_good_for_its_own_order_only(client, company, reader):
    cursor = client.get(ENTRIES, params={"limit": 3}, headers=reader).json()["next_cursor"]
    response = client.get(ENTRIES, params={"cursor": cursor, "order": "asc"}, headers=reader)
    assert response.json()["code"] == "invalid_cursor"


@pytest.mark.parametrize("path", ["entries", "summary", "export?format=csv"])
def test_who_is_refused_the_ledger_of_an_organization(client, company, bearer, path):
    def answer(headers):
        response = client.get(f"/v1/organizations/acme/{path}", headers=headers)
        return response.status_code, response.json()["code"]

    assert answer({}) == (401, "unauthenticated")
    assert answer({"Authorization": "Bearer x.y.z"}) == (401, "invalid_token")
    assert answer(bearer(scope="ledger:read", org_id="other")) == (403, "organization_forbidden")
    assert answer(bearer("ann", org_id="other", org_role="admin")) == (403, "organization_forbidden")
    assert answer(bearer(scope="usage:write credentials:lease")) == (403, "insufficient_scope")
    assert answer(bearer(org_role="admin")) == (403, "insufficient_scope")


def test_a_member_sees_its_own_entries_and_its_teams_and_an_admin_all(client, company, bearer):
    member = bearer("ann", org_id="acme", org_role="member", teams={"blue": "member"})
    seen = pages(client, member, limit=4)
    rows = company.rows("org_id = 'acme' AND (user_id = 'ann' OR team_id = 'blue')")
    # Of the keys behind them, her own and her teams'; red, whose key she was let use, is none of them.
    theirs = {row["entry_id"]: row["credential_id"] if row["credential_id"] != "k-team" else None for row in rows}
    assert {None, "k-ann"} <= set(theirs.values())
    assert seen == [as_wire(row | {"credential_id": theirs[row["entry_id"]]}) for row in rows]
    assert {entry["user_id"] for entry in seen} == {"ann", "bob"}
    # The member's filter narrows, and never widens.
    assert pages(client, member, user_id="cid") == []
    admin = bearer("ann", org_id="acme", org_role="admin")
    assert len(pages(client, admin)) == 46


def test_a_member_without_teams_sees_its_own_entries_alone(client, company, bearer):
    seen = pages(client, bearer("cid", org_id="acme", org_role="member"))
    assert seen
    assert {entry["user_id"] for entry in seen} == {"cid"}


def test_organizations_do_not_mix(client, company, reader, bearer):
    own = pages(client, bearer(scope="ledger:read", org_id="other"), url="/v1/organizations/other/entries")
    assert [entry["org_id"] for entry in own] == ["other"] * 5
    assert pages(client, reader, url="/v1/organizations/nobody/entries") == []
