"""Whoever has seen an entry finds it in sums and files, though its place comes a moment after its commit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.ledger.ledger_seed import Books

SUMMARY, EXPORT = "/v1/organizations/acme/summary", "/v1/organizations/acme/export?format=jsonl"


def waits_for_its_end(books: Books) -> None:
    """Return once a question is under way that waits for places."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%entry_batch WHERE batch <=%' AND pid <> %s"
    while books.connection.execute(asked, (books.connection.info.backend_pid,)).fetchone() == (0,):
        pass


@pytest.mark.parametrize("path", [SUMMARY, EXPORT])
def test_what_is_booked_is_waited_for(client: Any, company: Books, reader: Any, place: Any, path: str) -> None:
    client.get("/v1/organizations/nobody/summary", headers=reader)
    company.connection.execute("UPDATE ledger.entry_batch SET booked_at = clock_timestamp()")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, path, headers=reader)
        waits_for_its_end(company)
        placed = place()
        body = answer.result(30)
    assert placed > 0
    (entries,) = company.connection.execute("SELECT count(*) FROM ledger.entries WHERE org_id = 'acme'").fetchone()
    (events,) = company.connection.execute(
        "SELECT count(*) FROM ledger.entries WHERE org_id = 'acme' AND kind = 'charge'"
    ).fetchone()
    if path == SUMMARY:
        assert body.json()["total"]["events"] == events
    else:
        assert len(body.text.splitlines()) == entries


def test_where_places_are_late_nobody_waits(client: Any, company: Books, reader: Any) -> None:
    company.connection.execute("UPDATE ledger.entry_batch SET booked_at = booked_at - interval '3 s'")
    assert client.get(SUMMARY, headers=reader).json()["position"] == 0
