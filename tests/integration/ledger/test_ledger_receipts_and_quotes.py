"""Receipts derive an entry again from what was known when it was booked; quotes price what has not happened yet."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.domain.usage import Claim, EventType
from services.key_registry.rate_cards import packaged_cards
from tests.integration.ledger.ledger_seed import START, at


def receipt_of(client, headers, entry):
    response = client.get(f"/v1/entries/{entry.entry_id}/receipt", headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def taken(candidates):
    return [one["rule"] for one in candidates if one["taken"]]


def test_every_entry_of_the_company_agrees_with_its_receipt(client, company, reader):
    entries = company.rows()
    assert {row["kind"] for row in entries} == {"charge", "reversal", "correction"}
    for row in entries:
        receipt = client.get(f"/v1/entries/{row['entry_id']}/receipt", headers=reader).json()
        assert receipt["evidence"]["agrees"] is True, row
        assert receipt["entry"]["entry_id"] == str(row["entry_id"])
        if row["provider"]:
            expected = row["byok_scope"] if row["kind"] != "reversal" else None
            assert taken(receipt["evidence"]["candidates"]) == [expected or "platform"]


def test_a_receipt_of_a_corrected_event_names_the_change_that_caused_it(client, company, reader, bearer):
    company.rate_cards()
    late = company.book("later", user_id="eve", occurred_at=at(days=4))
    seq = company.credential("k-eve", "acme", "personal", "eve")
    reversal, correction = company.correct(late)
    receipt = receipt_of(client, reader, correction)
    assert [(row["kind"], row["revision"]) for row in receipt["revisions"]] == [
        ("charge", 0),
        ("reversal", 1),
        ("correction", 1),
    ]
    cause = {"seq": seq, "key": "credential:k-eve", "kind": "credential", "changed_at": "2026-04-27T00:00:00Z"}
    keeper = bearer(scope="ledger:read credentials:write")
    assert [row["caused_by"] for row in receipt_of(client, keeper, correction)["revisions"]] == [None, cause, cause]
    # Since when somebody has a key is not for whoever reads bills.
    cause["changed_at"] = None
    assert [row["caused_by"] for row in receipt["revisions"]] == [None, cause, cause]
    assert receipt["current_entry_id"] == str(correction.entry_id)
    # Each is explained with what was known when it was booked, not with what is known now.
    assert taken(receipt["evidence"]["candidates"]) == ["personal"]
    before = receipt_of(client, reader, late)
    assert taken(before["evidence"]["candidates"]) == ["platform"]
    assert before["evidence"]["registry_seq"] == seq - 1
    taken_back = receipt_of(client, reader, reversal)
    assert taken_back["explains_entry_id"] == str(late.entry_id)
    assert taken_back["evidence"]["agrees"] is True
    assert taken_back["read_from"] == {
        "cluster_id": "c1",
        "topic": "byok.usage-events",
        "partition": 0,
        "offset": company.offset - 1,
        "index": 0,
    }


def test_the_arithmetic_is_text_with_units(client, company, reader):
    tokens = company.rows("event_id = 'tokens'")[0]
    steps = client.get(f"/v1/entries/{tokens['entry_id']}/receipt", headers=reader).json()["evidence"]["arithmetic"]
    # gpt-4.1: 2, 0.5 and 8 USD per million tokens.
    assert steps[0] == (
        "(1,000 input tokens × 2 USD + 234 cached input tokens × 0.5 USD + 77 output tokens × 8 USD)"
        " ÷ 1,000,000 = 0.002733 USD"
    )
    assert "0.005 USD per credit" in steps[1]
    assert steps[-1].startswith("list 0.5466 credits")
    tool = company.rows("event_id = 'tool'")[0]
    receipt = client.get(f"/v1/entries/{tool['entry_id']}/receipt", headers=reader).json()
    assert receipt["evidence"]["arithmetic"][0] == "1 credits × 3 succeeded calls"
    assert receipt["evidence"]["candidates"] == []


@pytest.mark.parametrize(
    ("claim", "flags", "rule"),
    [
        (Claim(None), ["platform_fallback"], "claim"),
        (Claim("k-ann"), [], "claim"),
        (Claim("k-nobody"), ["credential_claim_rejected"], "personal"),
        (Claim("k-other"), ["credential_claim_rejected"], "personal"),
    ],
)
def test_a_claim_is_shown_with_its_flags(client, company, reader, claim, flags, rule):
    entry = company.book("claimed", claim=claim, occurred_at=at(seconds=1))
    receipt = receipt_of(client, reader, entry)
    assert receipt["claim"] == {
        "source": "platform" if claim.is_platform else "byok",
        "credential_id": claim.credential_id,
    }
    assert receipt["flags"] == flags
    assert taken(receipt["evidence"]["candidates"]) == [rule]
    assert receipt["evidence"]["agrees"] is True


def test_an_entry_that_is_wrong_does_not_agree(client, company, reader):
    entry = company.book("wrong", occurred_at=at(days=9))
    company.connection.execute("ALTER TABLE ledger.entry DISABLE TRIGGER USER")
    company.connection.execute(
        "UPDATE ledger.entry SET list_mc = list_mc + 1, charged_mc = charged_mc + 1 WHERE entry_id = %s",
        [entry.entry_id],
    )
    assert receipt_of(client, reader, entry)["evidence"]["agrees"] is False


def test_what_one_may_not_see_is_not_there(client, company, bearer):
    anns = company.rows("event_id = 'e0'")[0]["entry_id"]

    def status(headers, entry_id=anns):
        response = client.get(f"/v1/entries/{entry_id}/receipt", headers=headers)
        return response.status_code

    assert status(bearer("ann", org_id="acme", org_role="member")) == 200
    assert status(bearer("zoe", org_id="acme", org_role="admin")) == 200
    assert status(bearer("bob", org_id="acme", org_role="member", teams={"red": "admin"})) == 404
    assert status(bearer(scope="ledger:read", org_id="other")) == 404
    assert status(bearer(scope="usage:write")) == 404
    assert status(bearer(scope="ledger:read"), uuid4()) == 404
    assert status(bearer(scope="ledger:read"), "no-uuid") == 422
    assert status({}) == 401


QUOTE = {"org_id": "acme", "user_id": "ann", "provider": "openai", "model": "gpt-4.1", "time": "2026-05-01T12:00:00Z"}


def ask(client, headers, **more):
    return client.post("/v1/quote", json=QUOTE | more, headers=headers)


def test_a_quote_is_what_the_event_will_cost(client, company, reader):
    quote = ask(client, reader, calls=3, input_tokens=1_234, cached_input_tokens=234, output_tokens=77).json()
    node = company.book("n", calls=3).attribution
    tokens = company.book(
        "t", type=EventType.TOKEN_USAGE, agent_id="a", input_tokens=1_234, cached_input_tokens=234, output_tokens=77
    ).attribution
    assert quote["key"] == {
        "key_source": "byok",
        "byok_scope": "personal",
        "credential_id": "k-ann",
        "reason": "personal_key",
    }
    for part, booked in (("node_call", node), ("token_usage", tokens)):
        amounts = booked.amounts
        assert (quote[part]["list_mc"], quote[part]["charged_mc"]) == (amounts.list_mc, amounts.charged_mc)
        assert quote[part]["saved_mc"] == amounts.saved_mc
    assert quote["registry_seq"] == company.directory.seq
    assert taken(quote["candidates"]) == ["personal"]
    assert quote["rate_card"]["input_usd_per_mtok"] == "2"


def test_a_quote_is_as_of_its_time_and_follows_the_log(client, company, reader):
    assert ask(client, reader, time="2026-05-02T00:00:00Z").json()["key"]["reason"] == "no_credential"
    assert ask(client, reader, team_id="red").json()["key"]["reason"] == "team_key"
    company.plan("acme", "free")
    assert ask(client, reader).json()["key"]["reason"] == "plan_not_entitled"
    company.plan("acme", "enterprise")
    company.credential("k-org", "acme", "organization", "acme")
    assert ask(client, reader).json()["key"]["credential_id"] == "k-org"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"model": "unheard-of"}, "unpriced_model"),
        ({"time": "2020-01-01T00:00:00Z"}, "no_rate_card"),
        ({"org_id": None}, "organization_required"),
        ({"cached_input_tokens": 1}, "invalid_request"),
        ({"calls": 0}, "invalid_request"),
        ({"colour": "red"}, "invalid_request"),
        ({"user_id": ""}, "invalid_request"),
    ],
)
def test_a_quote_that_cannot_be_given_is_422(client, company, reader, more, code):
    response = ask(client, reader, **more)
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_a_quote_with_an_unknown_field_is_refused_without_its_name(client, reader):
    response = ask(client, reader, my_own_secret_of_no_known_shape=1)
    assert [error["field"] for error in response.json()["errors"]] == ["body"]
    assert "my_own_secret" not in response.text


def test_who_may_ask_for_whom(client, company, bearer):
    def answer(headers, **more):
        response = ask(client, headers, **more)
        return response.status_code, response.json().get("code")

    own = bearer("ann", org_id="acme", org_role="member", teams={"red": "member"})
    assert answer(own) == (200, None)
    assert answer(own, org_id=None) == (200, None)
    assert answer(own, team_id="red") == (200, None)
    assert answer(own, team_id="blue") == (403, "quote_forbidden")
    assert answer(own, user_id="bob") == (403, "quote_forbidden")
    assert answer(own, org_id="other") == (403, "organization_forbidden")
    assert answer(bearer("zoe", org_id="acme", org_role="admin"), user_id="bob") == (200, None)
    assert answer(bearer(scope="credentials:lease")) == (200, None)
    assert answer(bearer(scope="plans:write")) == (403, "insufficient_scope")
    assert answer({}) == (401, "unauthenticated")


def test_a_card_of_an_earlier_release_with_places_that_nobody_knows_is_quoted_and_explained(client, books, reader):
    card = packaged_cards()[0]
    body = card.body | {"models": {"openai": {"gpt-4.1": card.body["models"]["openai"]["gpt-4.1"] | {"margin": 0.5}}}}
    books.change(kind="rate_card", card="odd", effective_from=START, body=body | {"notes": ["x"]})
    asked = {"org_id": "acme", "user_id": "ann", "provider": "openai", "model": "gpt-4.1"}
    quoted = client.post("/v1/quote", headers=reader, json=asked).json()
    assert (quoted["rate_card"]["card"], quoted["node_call"]["charged_mc"]) == ("odd", 20_000_000)
    assert receipt_of(client, reader, books.book("priced"))["evidence"]["agrees"] is True
