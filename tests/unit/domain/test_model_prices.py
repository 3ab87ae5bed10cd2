"""What one request costs, unit by unit: parts, bands, windows, variants, uplifts, and what nobody prices."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.credits import Ratio
from services.domain.model_prices import (
    ImpossibleUsageError,
    UnpricedConditionError,
    UnpricedUnitError,
    bill,
    most_expensive,
    require_parts_fit,
)
from tests.factories import card_2, utc

CARD = card_2()
MONDAY = utc("2026-05-04T12:00:00")
SMALL, LARGE = CARD.models["openai", "small"], CARD.models["openai", "large"]


def cost(usage, conditions=None, at=MONDAY, price=LARGE):
    """In USD × 10^-12, as a ratio."""
    counts, said = tuple(sorted(usage.items())), tuple(sorted((conditions or {}).items()))
    return bill(counts, said, at, price, CARD.units).cost


def usd(micros_per_token_million):
    return Ratio(micros_per_token_million, 1)


def test_what_is_priced_apart_is_taken_off_the_unit_that_it_lies_within():
    assert cost({"input": 100, "cache_read": 60, "output": 10}, price=SMALL) == usd(
        40 * 250_000 + 60 * 25_000 + 10 * 2_000_000
    )


def test_a_part_without_a_price_that_inherits_is_billed_as_its_whole():
    assert cost({"output": 10, "reasoning": 7}, price=SMALL) == usd(10 * 2_000_000)


def test_a_part_without_a_price_that_does_not_inherit_has_none():
    with pytest.raises(UnpricedUnitError) as unpriced:
        cost({"input": 10, "image": 1}, price=SMALL)
    assert unpriced.value.unit == "image"


@pytest.mark.parametrize("unit", ["web_search", "video"])
def test_a_unit_that_the_model_or_no_card_prices_has_no_price(unit):
    with pytest.raises(UnpricedUnitError):
        cost({"input": 10, unit: 1}, price=SMALL)
    assert cost({"input": 10, unit: 0}, price=SMALL) == usd(10 * 250_000)


def test_a_whole_need_not_have_a_price_where_all_of_it_is_priced_apart():
    only_cached = SMALL._replace(prices={"cache_read": 25_000})
    assert cost({"input": 10, "cache_read": 10}, price=only_cached) == usd(10 * 25_000)
    with pytest.raises(UnpricedUnitError):
        cost({"input": 11, "cache_read": 10}, price=only_cached)


def test_more_priced_parts_than_their_whole_are_impossible():
    with pytest.raises(ImpossibleUsageError, match="cache_write must not exceed input, which it lies within"):
        cost({"input": 10, "cache_read": 6, "cache_write": 5})


def test_parts_that_overlap_are_possible_where_only_one_of_them_has_a_price():
    assert cost({"input": 10, "cache_read": 6, "reasoning": 0}, price=SMALL) == usd(4 * 250_000 + 6 * 25_000)


@pytest.mark.parametrize("usage", [{"input": 4, "cache_read": 5}, {"cache_read": 1}, {"output": 1, "reasoning": 2}])
def test_no_part_is_more_than_its_whole(usage):
    with pytest.raises(ImpossibleUsageError):
        require_parts_fit(tuple(usage.items()), CARD.units)


def test_parts_up_to_their_whole_and_units_that_are_not_known_fit():
    require_parts_fit((("input", 5), ("cache_read", 5), ("video", 9)), CARD.units)


@pytest.mark.parametrize(("tokens", "micros"), [(1_000, 15), (1_001, 30), (5_000, 30), (5_001, 40)])
def test_a_band_begins_above_its_limit_and_prices_the_whole_request_anew(tokens, micros):
    assert cost({"input": tokens}) == usd(tokens * micros * 1_000_000)


def test_what_a_band_does_not_name_stays_as_it_was():
    assert cost({"input": 6_000, "output": 1}) == usd(6_000 * 40_000_000 + 60_000_000)


@pytest.mark.parametrize(
    ("at", "micros"),
    [
        ("2026-05-08T22:00:00", 6),
        ("2026-05-08T21:59:59.999999", 60),
        ("2026-05-08T23:59:59.999999", 6),
        ("2026-05-09T00:00:00", 6),
        ("2026-05-09T06:29:59", 6),
        ("2026-05-09T06:30:00", 60),
        ("2026-05-10T00:00:00", 60),
        ("2026-05-07T23:00:00", 60),
    ],
)
def test_a_window_holds_on_its_days_from_its_beginning_to_before_its_end(at, micros):
    assert cost({"output": 1}, at=utc(at)) == usd(micros * 1_000_000)


def test_the_first_window_that_holds_counts():
    first = LARGE.windows[0]._replace(prices={"output": 1})
    late = utc("2026-05-08T23:00:00")
    assert cost({"output": 1}, at=late, price=LARGE._replace(windows=(first, *LARGE.windows))) == usd(1)


def test_a_band_lies_over_a_window_and_a_variant_over_both():
    late = utc("2026-05-08T23:00:00")
    assert cost({"input": 2_000, "output": 1}, at=late) == usd(2_000 * 30_000_000 + 90_000_000)
    batch = {"processing": "batch"}
    assert cost({"input": 1_000, "output": 1}, batch, late) == usd(1_000 * 7_500_000 + 30_000_000)


def test_a_variant_has_bands_of_its_own_and_leaves_what_it_does_not_name():
    batch = {"processing": "batch"}
    assert cost({"input": 1_001, "cache_read": 1}, batch) == usd(1_000 * 15_000_000 + 1_500_000)


def test_the_first_variant_whose_conditions_are_met_is_taken():
    assert cost({"output": 1}, {"service_tier": "fast"}) == usd(120_000_000)
    with pytest.raises(UnpricedConditionError) as unpriced:
        cost({"output": 1}, {"service_tier": "fast", "processing": "batch"})
    assert unpriced.value.condition == "service_tier"


def test_uplifts_multiply_tokens_and_no_fee():
    both = {"region": "us", "speed": "fast"}
    assert cost({"output": 10}, {"region": "us"}) == Ratio(10 * 60_000_000 * 11, 10)
    assert cost({"output": 10, "web_search": 3}, both) == Ratio(10 * 60_000_000 * 22 + 3 * 10_000 * 1_000_000 * 10, 10)


def test_a_condition_that_is_listed_as_neutral_changes_nothing():
    assert cost({"output": 1}, {"service_tier": "default"}) == usd(60_000_000)


@pytest.mark.parametrize("conditions", [{"region": "eu"}, {"mood": "good"}, {"service_tier": "flex"}])
def test_a_condition_of_which_nobody_says_what_it_costs_has_no_price(conditions):
    with pytest.raises(UnpricedConditionError):
        cost({"output": 1}, conditions)


def test_what_is_impossible_is_said_first_then_units_then_conditions():
    with pytest.raises(ImpossibleUsageError):
        cost({"input": 1, "cache_read": 2, "video": 1}, {"mood": "good"})
    with pytest.raises(UnpricedUnitError):
        cost({"input": 1, "video": 1}, {"mood": "good"})


def test_a_bill_says_what_was_laid_over_the_plain_prices():
    late = utc("2026-05-08T23:00:00")
    found = bill((("input", 1_001),), (("processing", "batch"), ("region", "us")), late, LARGE, CARD.units)
    assert [line.unit for line in found.lines] == ["input"]
    assert found.variant is LARGE.variants[0]
    assert found.band is LARGE.variants[0].bands[0]
    assert found.window is LARGE.windows[0]
    assert [uplift.when for uplift in found.uplifts] == [{"region": "us"}]
    plain = bill((("input", 1_001),), (("service_tier", "fast"),), late + timedelta(days=2), LARGE, CARD.units)
    assert plain.band is LARGE.bands[0]
    assert plain.window is None


def test_nothing_costs_more_than_the_most_expensive_of_all_prices():
    # Input at its highest band, output of the fast variant, a search; all tokens times both uplifts.
    most = most_expensive(LARGE, CARD.units)
    assert most == Ratio((40_000_000 + 120_000_000 + 10_000_000_000) * 22, 10)
    assert most_expensive(SMALL, CARD.units) == Ratio(250_000 + 2_000_000, 1)


@pytest.mark.parametrize(("unit", "micros", "picos"), [("input", 3, 3), ("web_search", 10_000_000, 10**10)])
def test_a_price_on_a_card_is_for_as_many_as_the_unit_says(unit, micros, picos):
    found = CARD.units.by_name[unit]
    assert (found.price_of_one(micros), found.price_on_card(picos)) == (picos, micros)


def test_spans_are_told_as_a_card_writes_them():
    assert LARGE.windows[0].spans == ["22:00-24:00", "00:00-06:30"]
