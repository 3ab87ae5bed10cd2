"""Who may do what with the ledger (invariant I8): one column a caller, one row an operation, written from the contract.

Of the organization acme there are five events: uma's own (A) and in the team growth (B), bob's own (C), in growth (D)
and in sales (E). A cell is the status of the answer or, of a 200, the events that it shows; "-" is none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import groupby

import pytest
from ledger_seed import at

EVENTS = {"A": ("uma", None), "B": ("uma", "growth"), "C": ("bob", None), "D": ("bob", "growth"), "E": ("bob", "sales")}
CALLERS = {
    "admin": ("ada", {"org_role": "admin"}),
    "uma": ("uma", {"org_role": "member"}),
    "bob": ("bob", {"org_role": "member"}),
    "lead": ("lea", {"org_role": "member", "teams": {"growth": "admin"}}),
    "mate": ("mia", {"org_role": "member", "teams": {"growth": "member"}}),
    "sales": ("sam", {"org_role": "member", "teams": {"sales": "member"}}),
    "guest": ("uma", {"teams": {"growth": "admin"}}),
    "reader": ("svc", {"scope": "ledger:read"}),
    "usage": ("svc", {"scope": "usage:write"}),
    "lease": ("svc", {"scope": "credentials:lease"}),
    "writer": ("svc", {"scope": "credentials:write plans:write registry:backdate"}),
    "alien": ("uma", {"org_role": "admin", "teams": {"growth": "admin"}, "org_id": "elsewhere"}),
    "remote": ("svc", {"scope": "ledger:read usage:write credentials:lease", "org_id": "elsewhere"}),
    "support": ("ada", {"org_role": "admin", "org_id": "*"}),
    "all": ("svc", {"scope": "ledger:read usage:write", "org_id": "*"}),
    "nobody": ("", {}),
}
TABLE = """
               admin uma bob lead mate sales guest | reader usage lease writer | alien remote support all   nobody
entries        ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE 401
entries-of-bob CDE   -   CDE D    D    E     403   | CDE    403   403   403    | 403   403    403     CDE   401
summary        5     2   3   2    2    1     403   | 5      403   403   403    | 403   403    403     5     401
export-csv     ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE 401
export-jsonl   ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE 401
receipt-A      200   200 404 404  404  404   404   | 200    404   404   404    | 404   404    404     200   401
receipt-B      200   200 404 200  200  404   404   | 200    404   404   404    | 404   404    404     200   401
receipt-C      200   404 200 404  404  404   404   | 200    404   404   404    | 404   404    404     200   401
receipt-D      200   404 200 200  200  404   404   | 200    404   404   404    | 404   404    404     200   401
receipt-E      200   404 200 404  404  200   404   | 200    404   404   404    | 404   404    404     200   401
receipt-none   404   404 404 404  404  404   404   | 404    404   404   404    | 404   404    404     404   401
quote-uma      200   200 403 403  403  403   403   | 200    200   200   403    | 403   403    403     200   401
quote-growth   200   403 403 403  403  403   403   | 200    200   200   403    | 403   403    403     200   401
quote-self     200   403 403 200  200  403   403   | 200    200   200   403    | 403   403    403     200   401
usage          403   403 403 403  403  403   403   | 403    202   403   403    | 403   403    403     202   401
"""
HEADER, *LINES = [line.replace("|", " ").split() for line in TABLE.strip().splitlines()]
CELLS = [(line[0], caller, expected) for line in LINES for caller, expected in zip(HEADER, line[1:], strict=True)]
ROWS = {operation: list(row) for operation, row in groupby(CELLS, key=lambda cell: cell[0])}
NONE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def entry_ids(books):
    books.rate_cards()
    books.plan("acme", "pro")
    ids = {}
    for number, (event_id, (user, team)) in enumerate(EVENTS.items()):
        ids[event_id] = str(books.book(event_id, user_id=user, team_id=team, occurred_at=at(seconds=number)).entry_id)
    # What nobody of acme may be shown, whatever they are called there.
    books.book("F", org_id="elsewhere", user_id="uma", team_id="growth")
    return ids | {"none": NONE}


def ask(client, entry_ids, operation, caller, headers):
    """Try ``operation`` as ``caller``."""
    name, _, of = operation.partition("-")
    base = "/v1/organizations/acme"
    quote = {"org_id": "acme", "provider": "openai", "model": "gpt-4.1", "time": "2026-05-01T12:00:00Z"}
    event = {
        "specversion": "1.0",
        "id": caller,
        "source": "s",
        "type": "usage.tool_call.v1",
        "time": "2026-05-01T12:00:00Z",
        "data": {"org_id": "acme", "user_id": "uma", "tool": "t"},
    }
    attempts: dict[str, Callable] = {
        "entries": lambda: client.get(f"{base}/entries", params={"user_id": "bob"} if of else {}, headers=headers),
        "summary": lambda: client.get(f"{base}/summary", headers=headers),
        "export": lambda: client.get(f"{base}/export", params={"format": of}, headers=headers),
        "receipt": lambda: client.get(f"/v1/entries/{entry_ids[of]}/receipt", headers=headers),
        "quote": lambda: client.post("/v1/quote", json=quote | _user(of, caller), headers=headers),
        "usage": lambda: client.post("/v1/usage-events", json=event, headers=headers),
    }
    return attempts[name]()


def _user(of, caller):
    if of == "self":
        return {"user_id": CALLERS[caller][0] or "uma", "team_id": "growth"}
    return {"user_id": "uma"} | ({"team_id": "growth"} if of == "growth" else {})


def outcome(operation, answer):
    """What the table calls this answer."""
    name = operation.partition("-")[0]
    if answer.status_code != 200 or name in ("receipt", "quote"):
        return str(answer.status_code)
    if name == "summary":
        return str(answer.json()["total"]["events"])
    if name == "entries":
        return "".join(sorted(entry["event_id"] for entry in answer.json()["entries"])) or "-"

    lines = answer.text.splitlines()
    rows = csv.DictReader(lines) if operation == "export-csv" else map(json.loads, lines)
    return "".join(sorted(row["event_id"] for row in rows)) or "-"


@pytest.mark.parametrize("operation", ROWS)
def test_a_row_of_the_table(client, entry_ids, bearer, operation):
    wrong = {}
    for _, caller, expected in ROWS[operation]:
        subject, claims = CALLERS[caller]
        headers = bearer(subject, **({"org_id": "acme"} | claims)) if subject else {}
        answer = ask(client, entry_ids, operation, caller, headers)
        if (found := outcome(operation, answer)) != expected:
            wrong[caller] = f"{found} instead of {expected}"
        if answer.status_code == 404:
            # Not a word tells what is hidden from what is not there.
            assert answer.content == ask(client, entry_ids, "receipt-none", caller, headers).content
    assert not wrong, wrong


def test_the_table_is_whole(client):
    """Each operation of the API is in the table, so that a new one is not forgotten here."""
    print(f"{len(CELLS)} cells: {len(ROWS)} operations x {len(CALLERS)} callers")  # noqa: T201 (pytest -rP)
    assert list(CALLERS) == HEADER
    described = client.get("/openapi.json").json()["paths"]
    named = {path.replace("{org_id}", "x").rsplit("/", 1)[1] for path in described if path.startswith("/v1/")}
    assert {operation.partition("-")[0] for operation in ROWS} == {name.replace("-events", "") for name in named}
