"""An export goes on where it broke off, or where the one before ended: nothing lost, nothing twice."""

from __future__ import annotations

import csv
import io
import json
from random import Random

import pytest

from tests.integration.ledger.export_seed import seed_every_kind
from tests.integration.ledger.ledger_process import book_many

EXPORT = "/v1/organizations/acme/export"
SEED = 20_261_129


@pytest.fixture
def company(books):
    seed_every_kind(books)
    books.place()
    return books


def positions(books, where="true"):
    query = (
        f"SELECT position, entry_id::text FROM ledger.entry_feed WHERE org_id = 'acme' AND {where} ORDER BY position"
    )
    return books.connection.execute(query).fetchall()


def whole_rows(file, form):
    """What a file that was cut holds for certain: position and entry of every whole row."""
    # In CSV a quoted cell may hold a line's end, but no id, name or object here does.
    end = b"\n" if form == "jsonl" else b"\r\n"
    text = file[: file.rfind(end) + len(end)].decode()
    if form == "jsonl":
        return [(row["position"], row["entry_id"]) for row in map(json.loads, text.splitlines())]
    entry, position = ("x_EntryId", "x_Position") if form == "focus" else ("entry_id", "position")
    rows = [(int(row[position]), row[entry]) for row in csv.DictReader(io.StringIO(text, newline=""))]
    if form == "focus" and len(file) > len(text):
        # More rows of the last entry may have been to come.
        rows = [row for row in rows if row[0] != rows[-1][0]]
    return list(dict.fromkeys(rows))


@pytest.mark.parametrize("form", ["csv", "jsonl", "focus"])
def test_cut_anywhere_and_gone_on_with_it_is_the_feed(client, company, reader, form):
    random, found, after = Random(SEED), [], 0  # noqa: S311 - where to cut is no secret
    while True:
        response = client.get(EXPORT, params={"format": form, "after": after}, headers=reader)
        assert response.status_code == 200, response.text
        upto = int(response.headers["byok-position"])
        file = response.content
        cut = file[: random.randrange(len(file) + 1)] if random.random() < 0.85 else file
        found += whole_rows(cut, form)
        if cut == file:
            after = upto
            if random.random() < 0.5:
                break
            company.book(f"meanwhile {after}")
            company.place()
        elif found:
            after = found[-1][0]
    rest = client.get(EXPORT, params={"format": "jsonl", "after": after}, headers=reader)
    found += whole_rows(rest.content, "jsonl")
    assert found == positions(company)


def test_a_whole_file_is_what_its_position_says_and_the_next_one_goes_on_there(client, company, reader):
    company.book("without a place yet")
    response = client.get(EXPORT, params={"format": "jsonl"}, headers=reader)
    upto = int(response.headers["byok-position"])
    ids = [json.loads(line)["entry_id"] for line in response.text.splitlines()]
    assert sorted(ids) == sorted(entry_id for _, entry_id in positions(company, f"position <= {upto}"))
    assert "position" not in json.loads(response.text.splitlines()[0])
    company.place()
    more = client.get(EXPORT, params={"format": "jsonl", "after": upto}, headers=reader)
    assert [json.loads(line)["event_id"] for line in more.text.splitlines()] == ["without a place yet"]
    assert int(more.headers["byok-position"]) == json.loads(more.text)["position"]


def test_it_is_filtered_and_narrowed_and_goes_on_all_the_same(client, company, bearer, monkeypatch):
    monkeypatch.setattr("services.ledger.repository._PLACES_AT_ONCE", 7)
    member = bearer("ann", org_id="acme", org_role="member", teams={})
    query = {"format": "csv", "after": 11, "provider": "openai", "to": "2026-06-01T00:00:00Z"}
    response = client.get(EXPORT, params=query, headers=member)
    where = "position > 11 AND provider = 'openai' AND occurred_at < '2026-06-01Z' AND user_id = 'ann'"
    assert whole_rows(response.content, "csv") == positions(company, where)


def test_an_empty_ledger_and_an_end_have_nothing_more(client, books, reader):
    response = client.get(EXPORT, params={"format": "jsonl", "after": 0}, headers=reader)
    assert (response.text, response.headers["byok-position"]) == ("", "0")
    books.rate_cards()
    books.book("one")
    books.place()
    response = client.get(EXPORT, params={"format": "csv", "after": 1}, headers=reader)
    assert response.text.count("\r\n") == 1


def test_a_position_that_the_ledger_does_not_have_is_refused_with_the_last_that_stands(client, company, reader):
    last = positions(company)[-1][0]
    answer = client.get(EXPORT, params={"format": "csv", "after": 10**15}, headers=reader)
    assert (answer.status_code, answer.json()["code"]) == (409, "ahead_of_ledger")
    assert f"before it is {last}." in answer.json()["detail"]


def test_while_places_are_far_behind_there_is_no_whole_file(client, company, reader, monkeypatch):
    monkeypatch.setattr("services.ledger.repository._UNPLACED_MAX", 1)
    for name in ("one", "two"):
        company.book(name)
    answer = client.get(EXPORT, params={"format": "csv"}, headers=reader)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "30")
    assert client.get(EXPORT, params={"format": "csv", "after": 0}, headers=reader).status_code == 200


@pytest.mark.slow
def test_files_in_the_order_of_places_hold_a_part_in_memory(process, books, reader):
    books.rate_cards()
    book_many(books, entries=20_000)
    books.place()
    process.get(f"{EXPORT}?format=focus&after=19000", reader).read()
    before = process.memory_peak()
    whole = process.get(f"{EXPORT}?format=focus&after=0", reader).read()
    assert whole.count(b"\r\n") == 20_002
    assert process.memory_peak() - before < len(whole)
