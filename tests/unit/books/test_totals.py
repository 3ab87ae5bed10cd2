"""The totals that are committed with the rows they count (docs/contract.md, section 9)."""

from __future__ import annotations

import json

import pytest

from services.books import totals as count
from services.books.totals import Totals
from services.domain.entries import charge, reprice
from services.domain.rating import rate
from services.domain.usage import Claim
from tests.factories import credential, directory, node_call, plan, token_usage, tool_call

FREE = directory()
PRO = directory(plan("pro"), credential("my-key"))


def readable(totals):
    return {(total.metric, *sorted(json.loads(total.labels_json).items())): value for total, value in totals.items()}


@pytest.mark.parametrize(
    ("event_type", "label"),
    [
        ("usage.node_call.v1", "usage.node_call.v1"),
        ("usage.workflow_run.v1", "usage.workflow_run.v1"),
        ("usage.sleep.v1", "other"),
        (None, "other"),
        (5, "other"),
    ],
)
def test_events_are_counted_by_type_and_outcome_and_junk_as_other(event_type, label):
    totals = Totals()
    count.events(totals, {(event_type, "recorded"): 2, (event_type, "duplicate"): 1})
    assert readable(totals) == {
        ("usage_events", ("event_type", label), ("outcome", "recorded")): 2,
        ("usage_events", ("event_type", label), ("outcome", "duplicate")): 1,
    }


def test_all_junk_is_one_series():
    totals = Totals()
    count.events(totals, {("usage.sleep.v1", "dead_letter"): 2, (None, "dead_letter"): 3})
    assert readable(totals) == {("usage_events", ("event_type", "other"), ("outcome", "dead_letter")): 5}


def test_dead_letters_are_counted_by_reason():
    totals = Totals()
    count.dead_letter(totals, "no_rate_card")
    assert readable(totals) == {("dead_letters", ("reason", "no_rate_card")): 1}


def test_charges_add_up_by_type_provider_key_source_and_scope():
    events = [node_call(), node_call(id="2", calls=2), tool_call(), token_usage(provider="anthropic", model="large")]
    totals = Totals()
    count.charges(totals, [charge(event, rate(event, PRO), 1) for event in events])

    def series(metric, scope, kind, source, provider):
        return (metric, ("byok_scope", scope), ("event_type", kind), ("key_source", source), ("provider", provider))

    own = ("personal", "usage.node_call.v1", "byok", "openai")
    tool = ("", "usage.tool_call.v1", "none", "")
    # 1,000 tokens at 5 USD per million: 0.005 USD, one credit.
    platform = ("", "usage.token_usage.v1", "platform", "anthropic")
    assert readable(totals) == {
        series("list_mc", *own): 6_000_000,
        series("charged_mc", *own): 3_000_000,
        series("saved_mc", *own): 3_000_000,
        series("list_mc", *tool): 1_000_000,
        series("charged_mc", *tool): 1_000_000,
        series("saved_mc", *tool): 0,
        series("list_mc", *platform): 1_000_000,
        series("charged_mc", *platform): 1_000_000,
        series("saved_mc", *platform): 0,
    }


def test_flags_of_charges_are_counted():
    event = node_call(claim=Claim(None))
    totals = Totals()
    count.charges(totals, [charge(event, rate(event, PRO), 1)])
    assert readable(totals)["credential_flags", ("flag", "platform_fallback")] == 1


@pytest.mark.parametrize(
    ("before", "after", "direction", "moved"),
    [(FREE, PRO, "refund", 1_000_000), (PRO, FREE, "charge", 1_000_000)],
)
def test_a_correction_counts_the_credits_it_moved_and_where_to(before, after, direction, moved):
    event = node_call()
    booked = charge(event, rate(event, before), 1)
    _, corrected = reprice(booked, rate(event, after), 2)
    totals = Totals()
    count.correction(totals, "credential", booked, corrected)
    assert readable(totals) == {
        ("corrections", ("reason", "credential")): 1,
        ("corrected_mc", ("direction", direction), ("reason", "credential")): moved,
    }


def test_a_correction_at_the_same_price_moves_nothing_and_counts_the_flags_it_brings_up():
    event = node_call(claim=Claim(None))
    booked = charge(event, rate(event, FREE), 1)
    _, corrected = reprice(booked, rate(event, PRO), 2)
    totals = Totals()
    count.correction(totals, "plan", booked, corrected)
    assert readable(totals) == {
        ("corrections", ("reason", "plan")): 1,
        ("credential_flags", ("flag", "platform_fallback")): 1,
    }
    _, back = reprice(corrected, rate(event, FREE), 3)
    totals = Totals()
    count.correction(totals, "plan", corrected, back)
    assert readable(totals) == {("corrections", ("reason", "plan")): 1}


def test_labels_are_the_same_text_whoever_writes_them():
    totals = Totals()
    count.events(totals, {("usage.tool_call.v1", "duplicate"): 1})
    count.correction(totals, "plan", *[charge(tool_call(), rate(tool_call(), FREE), 1)] * 2)
    assert [total.labels_json for total in totals] == [
        '{"event_type": "usage.tool_call.v1", "outcome": "duplicate"}',
        '{"reason": "plan"}',
    ]


def test_dead_letters_that_were_removed_are_counted_by_reason():
    totals = Totals()
    count.removed_letters(totals, "malformed_json", 3)
    count.removed_letters(totals, "malformed_json", 2)
    assert readable(totals) == {("removed_dead_letters", ("reason", "malformed_json")): 5}
