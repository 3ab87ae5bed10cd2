"""What was missing from the registry log and came later is answered without a restart of the ledger service."""

from __future__ import annotations

from services.key_registry.rate_cards import packaged_cards
from tests.integration.ledger.ledger_seed import at

_QUOTE = {"org_id": "acme", "user_id": "ann", "provider": "openai", "model": "gpt-4.1", "time": at().isoformat()}


def quote_of(client, headers):
    response = client.post("/v1/quote", json=_QUOTE, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def receipt_of(client, headers, entry):
    return client.get(f"/v1/entries/{entry.entry_id}/receipt", headers=headers).json()


def rules(candidates):
    return [(one["rule"], one["credential_id"], one["hint"], one["taken"]) for one in candidates]


def test_a_key_that_came_late_is_quoted_and_explained(client, books, bearer):
    keeper = bearer(scope="ledger:read credentials:write")
    books.rate_cards()
    books.plan("acme", "pro")
    late = books.directory.seq + 1
    books.plan("other", "pro", seq=late + 1)
    charge = books.book("e1")
    before = quote_of(client, keeper)
    assert (before["registry_seq"], before["key"]["key_source"]) == (late + 1, "platform")
    assert receipt_of(client, keeper, charge)["evidence"]["agrees"] is True

    books.credential("k-ann", "acme", "personal", "ann", seq=late)
    _, correction = books.correct(charge, caused_by=late)
    after = quote_of(client, keeper)
    assert (after["registry_seq"], after["key"]["credential_id"]) == (late + 1, "k-ann")
    assert ("personal", "k-ann", "…abcd", True) in rules(after["candidates"])
    receipt = receipt_of(client, keeper, correction)
    assert receipt["evidence"]["agrees"] is True
    assert ("personal", "k-ann", "…abcd", True) in rules(receipt["evidence"]["candidates"])
    assert receipt["revisions"][-1]["caused_by"]["key"] == "credential:k-ann"


def test_a_card_that_came_late_is_quoted_and_explained(client, books, reader):
    books.rate_cards()
    late = books.directory.seq + 1
    books.plan("other", "pro", seq=late + 1)
    charge = books.book("e1")
    before = quote_of(client, reader)
    (body,) = (card.body for card in packaged_cards() if card.card == before["rate_card"]["card"])
    body = body | {"tiers": dict.fromkeys(body["tiers"], 7)}
    books.change(seq=late, kind="rate_card", card="late", effective_from=at(hours=-1).isoformat(), body=body)
    _, correction = books.correct(charge, caused_by=late)
    after = quote_of(client, reader)
    assert (after["rate_card"]["card"], after["node_call"]["list_mc"]) == ("late", 7_000_000)
    evidence = receipt_of(client, reader, correction)["evidence"]
    assert (evidence["rate_card"]["card"], evidence["agrees"]) == ("late", True)


def test_an_older_state_that_came_late_takes_nothing_back(client, books, bearer):
    keeper = bearer(scope="ledger:read credentials:write")
    books.rate_cards()
    books.plan("acme", "pro")
    late = books.directory.seq + 1
    books.credential("k-ann", "acme", "personal", "ann", seq=late + 1, hint="…9999")
    newest = quote_of(client, keeper)["candidates"]
    assert ("personal", "k-ann", "…9999", True) in rules(newest)
    books.credential("k-ann", "acme", "personal", "ann", end="2026-04-28T00:00:00Z", seq=late)
    assert quote_of(client, keeper)["candidates"] == newest
