"""FOCUS exports of a real ledger: the sums are the ledger's to the last digit, and every column says what it should."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from decimal import Decimal

import pytest

from services.ledger.focus import COLUMNS, NUMBERS
from tests.integration.ledger.export_seed import seed_every_kind, usd_of_mc

EXPORT = "/v1/organizations/acme/export"


@pytest.fixture
def company(books):
    seed_every_kind(books)
    books.place()
    return books


def undone(cell):
    """What the how-to says undoes the defusing of formulas."""
    return cell[1:] if cell.startswith("'") else cell


def focus(client, headers, **query):
    response = client.get(EXPORT, params={"format": "focus", **query}, headers=headers)
    assert response.status_code == 200, response.text
    rows = csv.DictReader(io.StringIO(response.text, newline=""))
    return [
        {name: cell if name in NUMBERS else undone(cell) for name, cell in row.items()} for row in rows
    ], response.headers


def sums(rows, key, columns):
    found = defaultdict(lambda: [Decimal(0)] * len(columns))
    for row in rows:
        found[key(row)] = [
            had + (row[name] if isinstance(row[name], Decimal) else Decimal(row[name]))
            for had, name in zip(found[key(row)], columns, strict=True)
        ]
    return dict(found)


@pytest.mark.parametrize(
    ("focus_columns", "entry_columns"),
    [
        ((), ()),
        (("x_EntryId",), ("entry_id",)),
        (("SubAccountId", "x_KeySource"), ("team_id", "key_source")),
        (("x_EntryKind", "x_RateCard", "x_Model"), ("kind", "rate_card", "model")),
    ],
)
def test_sums_are_the_ledgers_in_all_and_by_group(client, company, reader, focus_columns, entry_columns):
    rows, _ = focus(client, reader)
    found = sums(
        rows,
        lambda row: tuple(row[name] for name in focus_columns),
        ("ListCost", "EffectiveCost", "ContractedCost", "x_SavedCost", "PricingCurrencyEffectiveCost", "BilledCost"),
    )
    entries = [
        {
            **{name: str(entry[name] or "") for name in entry_columns},
            "list": usd_of_mc(entry["list_mc"]),
            "charged": usd_of_mc(entry["charged_mc"]),
            "saved": usd_of_mc(entry["saved_mc"]),
            "credits": Decimal(entry["charged_mc"]).scaleb(-6),
            "nothing": Decimal(0),
        }
        for entry in company.rows("org_id = 'acme'")
    ]
    expected = sums(
        entries,
        lambda entry: tuple(entry[name] for name in entry_columns),
        ("list", "charged", "charged", "saved", "credits", "nothing"),
    )
    assert found == expected


def test_each_row_is_a_priced_unit_and_counts_what_was_used(client, company, reader):
    rows, _ = focus(client, reader)
    by_entry = defaultdict(list)
    for row in rows:
        by_entry[row["x_EntryId"]].append(row)
        sign = -1 if row["x_EntryKind"] == "reversal" else 1
        for name in ("ListCost", "EffectiveCost", "x_SavedCost", "ConsumedQuantity", "PricingQuantity"):
            assert sign * Decimal(row[name]) >= 0, row
        # A price times its quantity is the cost, but for the microcredits that the ledger rounds an entry to.
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            difference = Decimal(row[price]) * Decimal(row["PricingQuantity"]) - Decimal(row[cost])
            assert abs(difference) <= usd_of_mc(3), row
    assert {len(rows) for rows in by_entry.values()} == {1, 2, 3}
    for entry in company.rows("org_id = 'acme'"):
        of_entry = by_entry[str(entry["entry_id"])]
        consumed = sum(Decimal(row["ConsumedQuantity"]) for row in of_entry)
        assert consumed == entry["quantity"], (entry, of_entry)


def test_what_the_columns_say_of_a_request(client, company, reader):
    rows, _ = focus(client, reader, event_id="long")
    assert list(rows[0]) == list(COLUMNS)
    first, second = rows
    # Above 200,000 tokens in, Gemini 2.5 Pro has prices of its own.
    assert (first["SkuId"], first["SkuMeter"]) == ("google/gemini-2.5-pro/input", "Input Tokens")
    assert json.loads(first["SkuPriceDetails"])["x_AboveInputTokens"] == 200_000
    assert (first["ConsumedQuantity"], first["PricingQuantity"]) == ("250001.0", "0.250001")
    assert (first["ListUnitPrice"], first["PricingCurrencyListUnitPrice"]) == ("2.5", "500.0")
    assert (second["ConsumedUnit"], second["PricingUnit"]) == ("Tokens", "1000000 Tokens")
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == ("2026-11-27T12:00:00Z", "2026-11-27T13:00:00Z")
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (first["ResourceType"], first["ResourceId"], first["SubAccountId"]) == ("Agent", "agent-2", "red")


def test_what_is_charged_may_be_what_is_billed(client, company, reader):
    rows, _ = focus(client, reader, billed="charged")
    assert all(row["BilledCost"] == row["EffectiveCost"] for row in rows)
    assert {row["ProviderName"] for row in rows} == {row["InvoiceIssuerName"] for row in rows} == {"BYOK"}


def test_text_of_customers_is_no_formula_and_numbers_stay_numbers(client, company, reader):
    text = client.get(EXPORT, params={"format": "focus"}, headers=reader).text
    for row in csv.DictReader(io.StringIO(text, newline="")):
        for name, cell in row.items():
            if name in NUMBERS:
                assert cell == "" or Decimal(cell).is_finite()
            else:
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, cell)
    rows, _ = focus(client, reader, event_id="formula")
    assert (rows[0]["SubAccountId"], rows[0]["ResourceId"]) == ("-2", "@a")
    assert json.loads(rows[0]["Tags"])["user_id"] == "=1+1"


def test_a_key_that_may_not_be_known_is_not_told(client, company, bearer):
    rows, _ = focus(client, bearer("bob", org_id="acme", org_role="admin"), user_id="eve")
    applied = [row for row in rows if row["x_KeySource"] == "byok"]
    assert {row["x_CredentialId"] for row in applied} == {"k-eve"}
    member = bearer("zoe", org_id="acme", org_role="member", teams={"green": "member"})
    rows, _ = focus(client, member, user_id="eve")
    assert {row["x_CredentialId"] for row in rows} == {""}


def test_an_entry_that_a_card_does_not_explain_is_one_row_with_its_amounts(client, company, reader):
    company.connection.execute("ALTER TABLE ledger.entry DISABLE TRIGGER append_only")
    company.connection.execute("UPDATE ledger.entry SET model = 'gone', priced_model = NULL WHERE event_id = 'units 0'")
    (row,), _ = focus(client, reader, event_id="units 0")
    (entry,) = company.rows("event_id = 'units 0'")
    assert (row["SkuMeter"], Decimal(row["ListCost"])) == ("Tokens", usd_of_mc(entry["list_mc"]))
    assert Decimal(row["ConsumedQuantity"]) == entry["quantity"]
