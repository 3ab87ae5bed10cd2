"""The card of 2026-11-20 and the aliases are the price list by unit; 60 worked cases come to the last digit."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest

from services.domain.model_prices import PER_MILLION
from services.domain.rating import bill_of, price_of, rate
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from tests.factories import directory, request_usage, utc

DATA = Path(__file__).parent / "data"
LIST = json.loads((DATA / "model-prices-2.json").read_text(encoding="utf-8"))
with (DATA / "price-cases.csv").open(newline="", encoding="utf-8") as file:
    CASES = list(csv.DictReader(file))
CARD = packaged_cards()[-1].parse()
KNOWN = directory(*packaged_aliases(), cards=tuple(document.parse() for document in packaged_cards()))


def picos(usd_per_mtok, usd_per_1000=None):
    """Pico-USD for one: of tokens and of what is billed by the thousand."""
    prices = {unit: Fraction(usd) * PER_MILLION for unit, usd in (usd_per_mtok or {}).items()}
    return prices | {unit: Fraction(usd) * 10**9 for unit, usd in (usd_per_1000 or {}).items()}


def prices_in(written):
    return picos(written.get("usd_per_mtok"), written.get("usd_per_1000"))


def bands_in(written):
    return [(band["above_input_tokens"], prices_in(band)) for band in written.get("bands", [])]


def test_units_and_what_holds_for_every_model_are_those_of_the_price_list():
    assert CARD.units.inherit == set(LIST["inherit"])
    assert CARD.units.neutral == {name: set(values) for name, values in LIST["neutral"].items()}
    assert {name: unit.within for name, unit in CARD.units.by_name.items()} == {
        name: unit.get("in") for name, unit in LIST["units"].items()
    }
    assert CARD.units.by_name["web_search"].per == 1_000


def test_the_card_lists_exactly_the_models_of_the_price_list():
    assert set(CARD.models) == {(line["provider"], line["model"]) for line in LIST["models"]}
    assert len(CARD.models) == 138


@pytest.mark.parametrize("line", LIST["models"], ids=lambda line: f"{line['provider']}/{line['model']}")
def test_every_line_is_that_of_the_price_list(line):
    price = CARD.models[line["provider"], line["model"]]
    assert price.tier == line["tier"]
    assert price.prices == prices_in(line)
    assert [(band.above_input_tokens, band.prices) for band in price.bands] == bands_in(line)
    assert [(set(window.weekdays), window.prices) for window in price.windows] == [
        (set(window["weekdays"]), prices_in(window)) for window in line.get("windows", [])
    ]
    assert [
        (each.when, each.prices, [(band.above_input_tokens, band.prices) for band in each.bands])
        for each in price.variants
    ] == [(each["when"], prices_in(each), bands_in(each)) for each in line.get("variants", [])]
    assert [(each.when, Fraction(*each.times)) for each in price.uplifts] == [
        (each["when"], Fraction(each["times"])) for each in line.get("uplifts", [])
    ]


def test_tiers_and_plain_prices_are_those_of_the_card_before():
    before = packaged_cards()[-2].parse()
    for key, price in before.models.items():
        now = CARD.models[key]
        assert (now.tier, now.tier_mc) == (price.tier, price.tier_mc)
        assert {unit: now.prices[unit] for unit in price.prices} == price.prices


def test_the_aliases_that_ship_are_those_of_the_price_list():
    listed = {(line["provider"], alias): line["model"] for line in LIST["models"] for alias in line["aliases"]}
    shipped = {(each.provider, alias): model for each in packaged_aliases() for alias, model in each.aliases.items()}
    assert shipped == listed
    assert len(shipped) == 645


def test_no_alias_is_a_model_of_any_card_that_ships():
    """Else it would count for one card, and not for the next."""
    models = {key for document in packaged_cards() for key in document.parse().models}
    assert not models & {(each.provider, alias) for each in packaged_aliases() for alias in each.aliases}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model_as_reported']} {case['conditions']}")
def test_a_worked_case_comes_to_the_last_digit(case):
    event = request_usage(
        json.loads(case["usage"]),
        json.loads(case["conditions"]),
        provider=case["provider"],
        model=case["model_as_reported"],
        occurred_at=utc(case["time"]),
    )
    rating = rate(event, KNOWN)
    assert (rating.priced_model or event.model) == case["priced_model"]
    cost = bill_of(event, rating.card, price_of(event, rating)).cost
    assert Fraction(*cost) / 10**12 == Fraction(case["expected_list_usd"])
    assert rating.amounts.list_mc == round(Fraction(case["expected_list_usd"]) * 200 * 10**6)
