"""Charges, and the reversal and correction by which late knowledge converges (docs/contract.md, section 6)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

import pytest

from services.domain.entries import Attribution, EntryKind, Quantities, charge, entry_id, reprice
from services.domain.rating import Amounts, rate
from services.domain.usage import Claim, Identity
from tests.factories import (
    NOON,
    START,
    card,
    card_body,
    credential,
    directory,
    interval,
    node_call,
    plan,
    request_usage,
    token_usage,
    tool_call,
    workflow_run,
)

IDENTITY = Identity("org-1", "runner", "event-1")
EVENT = node_call(model="large", team_id="team-1")
FREE = directory()
PRO = directory(plan("pro"), credential("my-key"))
ENTERPRISE = directory(plan(), credential("my-key"), credential("org-key", "organization"))


# --- ids --------------------------------------------------------------------------------------------------------------


def test_an_entry_id_follows_from_identity_revision_and_kind_for_ever():
    digest = bytearray(hashlib.sha256(b"org-1\x1frunner\x1fevent-1\x1f0\x1fcharge").digest()[:16])
    digest[6] = 0x80 | digest[6] % 16
    digest[8] = 0x80 | digest[8] % 64
    found = entry_id(IDENTITY, 0, EntryKind.CHARGE)
    assert found == UUID(bytes=bytes(digest))
    assert found.version == 8
    assert found.variant == "specified in RFC 4122"


def test_other_identities_revisions_and_kinds_have_other_ids():
    identities = [IDENTITY, Identity("org-1r", "unner", "event-1"), Identity("org-1", "runnere", "vent-1")]
    ids = {
        entry_id(identity, revision, kind) for identity in identities for revision in (0, 1, 10) for kind in EntryKind
    }
    assert len(ids) == 27


# --- the charge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "quantities"),
    [
        (node_call(calls=3), (3, 0, 0, 0)),
        (token_usage(input_tokens=10, cached_input_tokens=4, output_tokens=5), (15, 10, 4, 5)),
        (request_usage({"input": 10, "cache_read": 4, "output": 5}), (15, 10, 4, 5)),
        (tool_call(calls=2), (2, 0, 0, 0)),
        (workflow_run(), (1, 0, 0, 0)),
    ],
)
def test_a_charge_is_revision_0_and_counts_what_was_used(event, quantities):
    booked = charge(event, rate(event, PRO), 7)
    assert booked.entry_id == entry_id(event.identity, 0, EntryKind.CHARGE)
    assert (booked.kind, booked.revision, booked.adjusts) == (EntryKind.CHARGE, 0, None)
    assert booked.event == event
    assert booked.quantities == Quantities(*quantities)
    assert booked.registry_seq == 7


LISTED, OWN_KEY = Amounts(30_000_000, 30_000_000), Amounts(30_000_000, 1_000_000)
ONE_CREDIT = Amounts(1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("known", "event", "expected"),
    [
        (
            FREE,
            EVENT,
            (
                "platform",
                None,
                None,
                "plan_not_entitled",
                (),
                "card-1",
                "expert",
                None,
                Amounts(30_000_000, 30_000_000),
            ),
        ),
        (
            PRO,
            EVENT,
            (
                "byok",
                "personal",
                "my-key",
                "personal_key",
                (),
                "card-1",
                "expert",
                None,
                Amounts(30_000_000, 1_000_000),
            ),
        ),
        (
            ENTERPRISE,
            EVENT._replace(claim=Claim("my-key")),
            (
                *("byok", "personal", "my-key", "claimed_key"),
                *(("organization_key_bypassed",), "card-1", "expert", None, OWN_KEY),
            ),
        ),
        (
            PRO,
            tool_call(),
            ("none", None, None, "not_model_usage", (), "card-1", None, None, Amounts(1_000_000, 1_000_000)),
        ),
    ],
)
def test_a_charge_says_whose_key_by_which_rule_and_at_what_price(known, event, expected):
    assert charge(event, rate(event, known), 1).attribution == Attribution(*expected)


# --- convergence ------------------------------------------------------------------------------------------------------


def test_late_knowledge_takes_an_entry_back_and_books_it_anew():
    event = token_usage(input_tokens=10_000, cached_input_tokens=2_000, output_tokens=300)
    booked = charge(event, rate(event, FREE), 1)
    reversal, correction = reprice(booked, rate(event, PRO), 9)

    assert (reversal.kind, reversal.revision, reversal.adjusts) == (EntryKind.REVERSAL, 1, booked.entry_id)
    assert reversal.quantities == Quantities(-10_300, -10_000, -2_000, -300)
    taken_back = reversal.attribution.amounts
    assert taken_back == Amounts(-booked.attribution.amounts.list_mc, -booked.attribution.amounts.charged_mc)
    assert taken_back.saved_mc == -booked.attribution.amounts.saved_mc
    assert reversal.attribution._replace(amounts=None) == booked.attribution._replace(amounts=None)
    assert (reversal.event, reversal.registry_seq) == (event, 9)

    assert (correction.kind, correction.revision, correction.adjusts) == (EntryKind.CORRECTION, 1, booked.entry_id)
    assert correction.quantities == booked.quantities
    assert correction.attribution == charge(event, rate(event, PRO), 9).attribution
    assert (correction.event, correction.registry_seq) == (event, 9)
    assert len({booked.entry_id, reversal.entry_id, correction.entry_id}) == 3


def test_a_second_correction_reverses_the_first_and_corrects_the_charge():
    booked = charge(EVENT, rate(EVENT, FREE), 1)
    _, first = reprice(booked, rate(EVENT, PRO), 2)
    reversal, correction = reprice(first, rate(EVENT, ENTERPRISE), 3)
    assert reversal.revision == correction.revision == 2
    assert reversal.adjusts == first.entry_id
    assert correction.adjusts == booked.entry_id
    assert reversal.attribution.credential_id == "my-key"
    assert correction.attribution.credential_id == "org-key"


def test_nothing_is_booked_where_nothing_changes():
    booked = charge(EVENT, rate(EVENT, PRO), 1)
    assert reprice(booked, rate(EVENT, PRO), 2) is None
    more = directory(plan("pro"), credential("my-key"), credential("other", owner="user-2"), plan(org_id="org-2"))
    assert reprice(booked, rate(EVENT, more), 5) is None


@pytest.mark.parametrize(
    ("before", "after", "event", "field"),
    [
        pytest.param(PRO, ENTERPRISE, EVENT, "byok_scope", id="another scope at the same price"),
        pytest.param(
            directory(plan("pro"), credential("one")),
            directory(plan("pro"), credential("two")),
            EVENT,
            "credential_id",
            id="another credential",
        ),
        pytest.param(
            directory(plan(), credential("my-key")),
            ENTERPRISE,
            EVENT._replace(claim=Claim("my-key")),
            "flags",
            id="a flag alone",
        ),
        pytest.param(
            directory(),
            directory(plan("pro")),
            EVENT,
            "reason",
            id="a reason alone",
        ),
        pytest.param(
            directory(),
            directory(cards=(card(), card("card-2", NOON))),
            EVENT,
            "rate_card",
            id="another card with the same price",
        ),
        pytest.param(
            directory(),
            directory(cards=(card(tiers=card_body()["tiers"] | {"expert": 40}),)),
            EVENT,
            "amounts",
            id="a price alone",
        ),
    ],
)
def test_a_change_of_price_or_attribution_alone_is_booked(before, after, event, field):
    booked = charge(event, rate(event, before), 1)
    reversal, correction = reprice(booked, rate(event, after), 2)
    assert getattr(correction.attribution, field) != getattr(booked.attribution, field)
    sums = [sum(each) for each in zip(booked.quantities, reversal.quantities, strict=True)]
    assert sums == [0, 0, 0, 0]


def test_a_key_that_turns_out_to_have_ended_raises_the_charge():
    until_then = directory(plan("pro"), credential("my-key", active=(interval(START, NOON - timedelta(hours=1)),)))
    booked = charge(EVENT, rate(EVENT, PRO), 1)
    _, correction = reprice(booked, rate(EVENT, until_then), 2)
    assert correction.attribution.amounts == Amounts(30_000_000, 30_000_000)
    assert correction.attribution.byok_scope is None
    assert correction.attribution.reason == "no_credential"
