"""What was refused of an organization, page by page, without payloads, for services alone."""

from __future__ import annotations

import pytest

LETTERS = "/v1/organizations/acme/dead-letters"


@pytest.fixture
def letters(company):
    for number in range(5):
        more = {"event_id": f"page-{number}", "event_type": "usage.node_call.v1", "payload": b"secret bytes"}
        company.dead_letter("acme", "unpriced_unit" if number % 2 else "invalid_event", 100 + number, **more)
    company.dead_letter("other", "invalid_event", 200, event_id="page-other")
    return company


def test_pages_to_exhaustion_hold_every_letter_once_and_no_payload(client, letters, reader):
    found, cursor = [], None
    while True:
        page = client.get(LETTERS, params={"limit": 2} | ({"cursor": cursor} if cursor else {}), headers=reader).json()
        found += page["dead_letters"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    ours = [letter["event_id"] for letter in found if (letter["event_id"] or "").startswith("page-")]
    assert ours == [f"page-{number}" for number in (4, 3, 2, 1, 0)]
    assert len({letter["dead_letter_id"] for letter in found}) == len(found)
    assert "secret" not in str(found)
    assert found[0]["failed_at"].endswith("Z")


def test_a_reason_narrows_it_down_and_an_unknown_filter_is_refused(client, letters, reader):
    of_reason = client.get(LETTERS, params={"reason": "unpriced_unit"}, headers=reader).json()["dead_letters"]
    assert [letter["event_id"] for letter in of_reason] == ["page-3", "page-1"]
    assert client.get(LETTERS, params={"reson": "x"}, headers=reader).status_code == 422
    assert client.get(LETTERS, params={"reason": "nonsense"}, headers=reader).status_code == 422
    for cursor in ("x", "W10", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgMV0"):
        answer = client.get(LETTERS, params={"cursor": cursor}, headers=reader)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


def test_they_are_for_services_that_may_read_the_ledger_of_the_organization(client, letters, stack):
    def status(**token):
        return client.get(LETTERS, headers={"Authorization": f"Bearer {stack.token(**token)}"}).status_code

    assert status(scope="ledger:read", org_id="acme") == 200
    assert status(scope="ledger:read", org_id="other") == 403
    assert status(scope="usage:write", org_id="acme") == 403
    assert status(subject="ada", org_id="acme", org_role="admin") == 403
