"""Whoever has seen an entry finds it in sums and files, though its place comes a moment after its commit."""

from __future__ import annotations

from typing import Any

import pytest

from services.ledger import settling
from tests.integration.ledger.ledger_seed import Books

SUMMARY, EXPORT = "/v1/organizations/acme/summary", "/v1/organizations/acme/export?format=jsonl"


@pytest.mark.parametrize("path", [SUMMARY, EXPORT])
def test_what_is_booked_is_waited_for(
    client: Any, company: Books, reader: Any, place: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.connection.execute("UPDATE ledger.entry_batch SET booked_at = clock_timestamp()")
    placed: list[int] = []
    # The sequencer comes while they wait.
    monkeypatch.setattr(settling, "sleep", lambda _: placed.append(place()))
    answer = client.get(path, headers=reader)
    assert placed[0] > 0
    count = company.connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE kind = 'charge') FROM ledger.entries WHERE org_id = 'acme'"
    ).fetchone()
    assert count is not None
    if path == SUMMARY:
        assert answer.json()["total"]["events"] == count[1]
    else:
        assert len(answer.text.splitlines()) == count[0]


def test_where_places_are_late_nobody_waits(
    client: Any, company: Books, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.connection.execute("UPDATE ledger.entry_batch SET booked_at = booked_at - interval '3 s'")
    monkeypatch.setattr(settling, "sleep", lambda _: pytest.fail("somebody waits"))
    assert client.get(SUMMARY, headers=reader).json()["position"] == 0
