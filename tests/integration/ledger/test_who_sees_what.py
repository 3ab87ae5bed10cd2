"""Who may do what with the ledger (invariant I8): one column a caller, one row an operation, written from the contract.

Of the organization acme there are five events: uma's own (A) and in the team growth (B), bob's own (C), in growth (D)
and in sales (E). A cell is the status of the answer or, of a 200, the events that it shows; "-" is none.

A second table says what is shown of whose key, in the words of the key registry's own
(tests/integration/key_registry/who_may_what.py): of a key that one may not know of there is nothing, wherever its use
is billed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

import pytest

from services.domain.usage import Claim
from tests.integration.ledger.ledger_seed import at

EVENTS = {"A": ("uma", None), "B": ("uma", "growth"), "C": ("bob", None), "D": ("bob", "growth"), "E": ("bob", "sales")}
CALLERS: dict[str, tuple[Any, Any]] = {
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
    "keeper": ("svc", {"scope": "ledger:read credentials:write"}),
    "nobody": ("", {}),
}
TABLE = """
               admin uma bob lead mate sales guest | reader usage lease writer | alien remote support all   keeper nobody
entries        ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE ABCDE  401
entries-of-bob CDE   -   CDE D    D    E     403   | CDE    403   403   403    | 403   403    403     CDE   CDE    401
summary        5     2   3   2    2    1     403   | 5      403   403   403    | 403   403    403     5     5      401
statement      200   403 403 403  403  403   403   | 200    403   403   403    | 403   403    403     200   200    401
what-if        200   200 200 200  200  200   403   | 200    403   403   403    | 403   403    403     200   200    401
export-csv     ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE ABCDE  401
export-jsonl   ABCDE AB  CDE BD   BD   E     403   | ABCDE  403   403   403    | 403   403    403     ABCDE ABCDE  401
receipt-A      200   200 404 404  404  404   404   | 200    404   404   404    | 404   404    404     200   200    401
receipt-B      200   200 404 200  200  404   404   | 200    404   404   404    | 404   404    404     200   200    401
receipt-C      200   404 200 404  404  404   404   | 200    404   404   404    | 404   404    404     200   200    401
receipt-D      200   404 200 200  200  404   404   | 200    404   404   404    | 404   404    404     200   200    401
receipt-E      200   404 200 404  404  200   404   | 200    404   404   404    | 404   404    404     200   200    401
receipt-none   404   404 404 404  404  404   404   | 404    404   404   404    | 404   404    404     404   404    401
quote-uma      200   200 403 403  403  403   403   | 200    200   200   403    | 403   403    403     200   200    401
quote-growth   200   403 403 403  403  403   403   | 200    200   200   403    | 403   403    403     200   200    401
quote-self     200   403 403 200  200  403   403   | 200    200   200   403    | 403   403    403     200   200    401
dead-letters   403   403 403 403  403  403   403   | 200    403   403   403    | 403   403    403     200   200    401
dead-letter-counts 403   403 403 403  403  403   403   | 200    403   403   403    | 403   403    403     200   200    401
organizations  acme  acme acme acme acme acme 403  | acme   403   403   403    | elsewhere elsewhere 403 acme+elsewhere acme 401
usage          403   403 403 403  403  403   403   | 403    202   403   403    | 403   403    403     202   403    401
"""  # noqa: E501 (as below)

# With keys of the organization (for google), the team growth (anthropic), uma (openai, google) and bob (openai, xai):
# in growth uma uses hers (A), the team's (B) and the organization's, before which her own does not come (C); bob uses
# his own (D), and one that becomes known late (E); and for herself uma claims a key of bob's, in vain (F).
#
# Of an answer about one key: "hint" for all that is known of it, "times" for its id and since when, "id", "none".
# Of entries the events whose key's id is shown.
KEYS = """
                  admin  uma  bob  lead mate sales guest | reader usage lease writer | alien remote support all    keeper nobody
receipt-A-uma     times  hint 404  none none 404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-B-team    hint   none 404  hint hint 404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-C-org     hint   hint 404  hint hint 404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-C-passed  times  hint 404  none none 404   404   | none   404   404   404    | 404   404    404     none   hint   401
receipt-D-bob     times  404  hint none none 404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-E-late    times  404  hint none none 404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-E0-late   times  404  times none none 404  404   | id     404   404   404    | 404   404    404     id     times  401
receipt-F-uma     times  hint 404  404  404  404   404   | id     404   404   404    | 404   404    404     id     hint   401
receipt-F-bob     times  none 404  404  404  404   404   | none   404   404   404    | 404   404    404     none   hint   401
quote-A-uma       times  hint 403  403  403  403   403   | id     id    id    403    | 403   403    403     id     hint   401
quote-B-team      hint   403  403  403  403  403   403   | id     id    id    403    | 403   403    403     id     hint   401
quote-own-team    hint   403  403  hint hint 403   403   | id     id    id    403    | 403   403    403     id     hint   401
quote-own-org     hint   403  403  hint hint 403   403   | id     id    id    403    | 403   403    403     id     hint   401
quote-C-org       hint   hint 403  403  403  403   403   | id     id    id    403    | 403   403    403     id     hint   401
quote-C-passed    times  hint 403  403  403  403   403   | none   none  none  403    | 403   403    403     none   hint   401
entries           ABCDEF ACF  DE   BC   BC   -     403   | ABCDEF 403   403   403    | 403   403    403     ABCDEF ABCDEF 401
export-csv        ABCDEF ACF  DE   BC   BC   -     403   | ABCDEF 403   403   403    | 403   403    403     ABCDEF ABCDEF 401
export-jsonl      ABCDEF ACF  DE   BC   BC   -     403   | ABCDEF 403   403   403    | 403   403    403     ABCDEF ABCDEF 401
groups            5      2    2    2    2    0     403   | 5      403   403   403    | 403   403    403     5      5      401
entries-of-bob    D      -    D    -    -    -     403   | D      403   403   403    | 403   403    403     D      D      401
entries-of-uma    AF     AF   -    -    -    -     403   | AF     403   403   403    | 403   403    403     AF     AF     401
summary-of-bob    1      0    1    0    0    0     403   | 1      403   403   403    | 403   403    403     1      1      401
"""  # noqa: E501 (a table is easier to read than lines of 120 characters)


def cells(table):
    """The header of a table, and its rows cell by cell."""
    header, *lines = [line.replace("|", " ").split() for line in table.strip().splitlines()]
    every = [(line[0], caller, expected) for line in lines for caller, expected in zip(header, line[1:], strict=True)]
    return header, {operation: list(row) for operation, row in groupby(every, key=lambda cell: cell[0])}


HEADER, ROWS = cells(TABLE)
KEY_HEADER, KEY_ROWS = cells(KEYS)
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
    books.place()
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
        "statement": lambda: client.get(f"{base}/statement", params={"month": "2026-05"}, headers=headers),
        "what": lambda: client.get(f"{base}/what-if", headers=headers),
        "export": lambda: client.get(f"{base}/export", params={"format": of}, headers=headers),
        "receipt": lambda: client.get(f"/v1/entries/{entry_ids[of]}/receipt", headers=headers),
        "quote": lambda: client.post("/v1/quote", json=quote | _user(of, caller), headers=headers),
        "dead": lambda: client.get(f"{base}/dead-{of}", headers=headers),
        "organizations": lambda: client.get("/v1/organizations", headers=headers),
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
    if answer.status_code != 200 or name in ("receipt", "quote", "dead", "statement", "what"):
        return str(answer.status_code)
    if name == "organizations":
        return "+".join(each["org_id"] for each in answer.json()["organizations"])
    if name == "summary":
        return str(answer.json()["total"]["events"])
    return "".join(sorted(row["event_id"] for row in _rows(operation, answer))) or "-"


def _rows(operation, answer):
    if operation.startswith("entries"):
        return answer.json()["entries"]
    lines = answer.text.splitlines()
    return csv.DictReader(lines) if operation == "export-csv" else map(json.loads, lines)


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
    print(f"{len(ROWS)} operations and {len(KEY_ROWS)} of keys x {len(CALLERS)} callers")  # noqa: T201 (pytest -rP)
    assert list(CALLERS) == HEADER == KEY_HEADER
    described = client.get("/openapi.json").json()["paths"]
    named = {path.replace("{org_id}", "x").rsplit("/", 1)[1] for path in described if path.startswith("/v1/")}
    assert {operation.partition("-")[0] for operation in ROWS} == {name.partition("-")[0] for name in named}


class Key(NamedTuple):
    """A key of acme; its hint and its times are no other's."""

    id: str
    level: str
    owner: str
    provider: str
    hint: str
    start: str


KEY = {
    key.id.removeprefix("key-"): key
    for key in (
        Key("key-org", "organization", "acme", "google", "…o001", "2026-04-27T00:01:00Z"),
        Key("key-team", "team", "growth", "anthropic", "…t002", "2026-04-27T00:02:00Z"),
        Key("key-uma", "personal", "uma", "openai", "…u003", "2026-04-27T00:03:00Z"),
        Key("key-passed", "personal", "uma", "google", "…u004", "2026-04-27T00:04:00Z"),
        Key("key-bob", "personal", "bob", "openai", "…b005", "2026-04-27T00:05:00Z"),
        Key("key-late", "personal", "bob", "xai", "…b006", "2026-04-27T00:06:00Z"),
    )
}
MODEL = {
    "openai": "gpt-4.1",
    "google": "gemini-2.5-pro",
    "anthropic": "claude-sonnet-4-6",
    "xai": "grok-4.3",
}
USES = {
    "A": ("uma", "growth", "openai", None),
    "B": ("uma", "growth", "anthropic", None),
    "C": ("uma", "growth", "google", None),
    "D": ("bob", "growth", "openai", None),
    "E": ("bob", "growth", "xai", None),
    "F": ("uma", None, "openai", Claim("key-bob")),
}


def _add(books, key):
    books.credential(
        key.id,
        "acme",
        key.level,
        key.owner,
        key.start,
        provider=key.provider,
        hint=key.hint,
        changed_at=key.start,
    )


@pytest.fixture
def used(books):
    """The entries of the uses, by their letters; E0 is the one that was corrected."""
    books.rate_cards()
    books.plan("acme", "enterprise")
    for name in ("org", "team", "uma", "passed", "bob"):
        _add(books, KEY[name])
    entries = {}
    for number, (letter, (user, team, provider, claim)) in enumerate(USES.items()):
        what = {"provider": provider, "model": MODEL[provider], "claim": claim}
        entries[letter] = books.book(letter, user_id=user, team_id=team, occurred_at=at(seconds=number), **what)
    entries["E0"] = entries["E"]
    _add(books, KEY["late"])
    _, entries["E"] = books.correct(entries["E0"])
    books.place()
    return {letter: str(entry.entry_id) for letter, entry in entries.items()}


def ask_of_key(client, used, operation, caller, headers):
    """Try ``operation`` as ``caller``."""
    name, *of = operation.split("-")
    base = "/v1/organizations/acme"
    if name == "receipt":
        return client.get(f"/v1/entries/{used[of[0]]}/receipt", headers=headers)
    if name == "quote":
        user, team, provider, _ = USES.get(of[0], (CALLERS[caller][0] or "uma", "growth", KEY[of[1]].provider, None))
        if of[0] in "AC":
            # For herself, as she is in no team.
            team = None
        body = {"org_id": "acme", "user_id": user, "team_id": team, "provider": provider, "model": MODEL[provider]}
        return client.post("/v1/quote", json=body | {"time": "2026-05-01T12:00:00Z"}, headers=headers)
    if name == "export":
        return client.get(f"{base}/export", params={"format": of[0]}, headers=headers)
    narrowed = {"credential_id": f"key-{of[1]}"} if of else {}
    if name == "entries":
        return client.get(f"{base}/entries", params=narrowed, headers=headers)
    return client.get(f"{base}/summary", params=narrowed | {"group_by": "credential_id"}, headers=headers)


def outcome_of_key(operation, answer):
    """What the table calls this answer."""
    if answer.status_code != 200:
        return str(answer.status_code)
    name, *of = operation.split("-")
    if name in ("receipt", "quote"):
        key = KEY[of[1]]
        # Wherever in the answer it stands.
        words = {"hint": key.hint, "times": key.start, "id": key.id}
        return next((word for word, text in words.items() if text in answer.text), "none")
    if name == "organizations":
        return "+".join(each["org_id"] for each in answer.json()["organizations"])
    if name == "summary":
        return str(answer.json()["total"]["events"])
    if name == "groups":
        return str(sum(group["credential_id"] is not None for group in answer.json()["groups"]))
    rows = _rows(operation, answer)
    return "".join(sorted({row["event_id"] for row in rows if row["credential_id"]})) or "-"


@pytest.mark.parametrize("operation", KEY_ROWS)
def test_what_is_shown_of_whose_key(client, used, bearer, operation):
    wrong = {}
    for _, caller, expected in KEY_ROWS[operation]:
        subject, claims = CALLERS[caller]
        headers = bearer(subject, **({"org_id": "acme"} | claims)) if subject else {}
        answer = ask_of_key(client, used, operation, caller, headers)
        if (found := outcome_of_key(operation, answer)) != expected:
            wrong[caller] = f"{found} instead of {expected}"
    assert not wrong, wrong
