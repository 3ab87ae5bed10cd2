"""Rows of FOCUS: whatever an entry is, its rows add up to it, and the columns are those of the contract."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.books.entry_rows import attribution_columns, event_columns
from services.domain.entries import attribution
from services.domain.model_prices import UnpricedError
from services.domain.rating import rate
from services.ledger.focus import COLUMNS, NUMBERS, POSITION, Terms, focus_rows
from tests.factories import card, card_2, directory, node_call, request_usage, tool_call, workflow_run
from tests.strategies import events, histories

DOCUMENT = Path("docs/how-to/export.md")
TERMS = Terms("Us")
SUMMED = ("list_mc", "charged_mc", "saved_mc")


def entry(event, rating, kind="charge"):
    """The row that a charge, or the reversal of one, is read as."""
    row = event_columns(event) | attribution_columns(attribution(rating))
    row |= {"entry_id": UUID(int=1), "kind": kind, "revision": 0, "registry_seq": 1, "evidence": None}
    if kind == "reversal":
        row |= {name: -row[name] for name in (*SUMMED, "quantity")}
    return row


def usd(mc, card_of_it):
    return Fraction(mc * card_of_it.usd_micros_per_credit, 10**12)


@settings(max_examples=200)
@given(histories(), events(), st.sampled_from(["charge", "reversal", "correction"]), st.sampled_from([5_000, 3_333, 1]))
def test_rows_add_up_to_their_entry(log, event, kind, usd_micros):
    try:
        rating = rate(event, directory(*log))
    except UnpricedError:
        assume(False)  # noqa: FBT003
    of = rating.card._replace(usd_micros_per_credit=usd_micros)
    row = entry(event, rating, kind)
    rows = list(focus_rows(row, of, TERMS))
    for column, name in (("ListCost", "list_mc"), ("EffectiveCost", "charged_mc"), ("x_SavedCost", "saved_mc")):
        assert sum(Fraction(each[column]) for each in rows) == usd(row[name], of)
    in_credits = sum(Fraction(each["PricingCurrencyEffectiveCost"]) for each in rows)
    assert in_credits == Fraction(row["charged_mc"], 10**6)
    assert all(set(each) <= {*COLUMNS, POSITION} for each in rows)
    assert all(isinstance(each[name], (str, int)) for each in rows for name in NUMBERS - {POSITION})


def rows_of(event, *, cards=None, terms=TERMS, kind="charge"):
    rating = rate(event, directory(cards=cards))
    return list(focus_rows(entry(event, rating, kind), rating.card, terms))


def test_a_reversal_is_negative_and_its_prices_are_not():
    (row,) = rows_of(node_call(calls=3), kind="reversal")
    assert (row["ConsumedQuantity"], row["PricingQuantity"]) == ("-3.0", "-3.0")
    assert (row["ListCost"], row["ListUnitPrice"], row["PricingCurrencyListUnitPrice"]) == ("-0.03", "0.01", "2.0")


def test_what_is_prepaid_is_not_billed_again():
    assert rows_of(node_call())[0]["BilledCost"] == "0.0"
    (row,) = rows_of(node_call(), terms=Terms("Us", "charged"))
    assert row["BilledCost"] == row["EffectiveCost"] == "0.01"
    assert row["ProviderName"] == row["InvoiceIssuerName"] == "Us"


def test_a_price_of_a_band_a_variant_and_an_uplift_has_an_id_of_its_own():
    conditions = {"processing": "batch", "region": "us"}
    event = request_usage({"input": 1_001, "output": 7}, conditions, model="large")
    first, second = rows_of(event, cards=(card_2(),))
    assert first["SkuId"] == "openai/large/input"
    assert first["SkuPriceId"] == (
        "card-2/openai/large/input/Tier=expert/AboveInputTokens=1000/Processing=batch/Region=us"
    )
    assert first["SkuPriceDetails"] == (
        '{"x_AboveInputTokens":1000,"x_Processing":"batch","x_RateCard":"card-2","x_Region":"us","x_Tier":"expert"}'
    )
    assert (Decimal(first["ListUnitPrice"]), second["SkuMeter"]) == (Decimal("16.5"), "Output Tokens")


@pytest.mark.parametrize(
    ("event", "meter", "unit", "service", "resource"),
    [
        (tool_call(tool="mail"), "Tool Calls", "Calls", "Agents", None),
        (workflow_run(), "Workflow Runs", "Runs", "Workflows", "flow-1"),
        (node_call(), "Node Calls", "Calls", "Workflows", None),
        (request_usage({"input": 1}), "Input Tokens", "Tokens", "Agents", "agent-1"),
    ],
)
def test_what_is_counted_has_a_name(event, meter, unit, service, resource):
    (row,) = rows_of(event)
    assert (row["SkuMeter"], row["ConsumedUnit"], row["ServiceName"]) == (meter, unit, service)
    assert row.get("ResourceId") == resource


def test_searches_are_requests_by_the_thousand():
    rows = rows_of(request_usage({"input": 1, "web_search": 3}, model="large"), cards=(card_2(),))
    search = next(row for row in rows if row["SkuId"].endswith("web_search"))
    assert (search["PricingUnit"], search["PricingQuantity"]) == ("1000 Requests", "0.003")
    assert (search["ConsumedQuantity"], search["ListUnitPrice"]) == ("3.0", "10.0")


def test_a_months_end_and_an_hour_are_exclusive():
    (row,) = rows_of(node_call(occurred_at=card().effective_from.replace(month=12, day=31, hour=23, minute=59)))
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z")
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")


def test_the_document_tells_every_column_and_no_others():
    table = DOCUMENT.read_text().partition("### Columns of FOCUS")[2].partition("\n## ")[0]
    told = re.findall(r"`((?:x_)?[A-Z]\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    assert sorted(told) == sorted({*COLUMNS, POSITION})


def test_columns_of_focus_are_in_the_order_of_the_specification_and_ours_come_last():
    theirs = [name for name in COLUMNS if not name.startswith("x_")]
    assert theirs == sorted(theirs)
    assert list(COLUMNS[: len(theirs)]) == theirs
