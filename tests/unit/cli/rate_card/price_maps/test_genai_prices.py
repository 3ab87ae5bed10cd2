"""What genai-prices says of a model, shape by shape: which price of a card each of them is, to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from services.cli.rate_card.price_maps.genai_prices import read
from services.cli.rate_card.price_maps.lines import LeftOut, Place, PriceMapError, Window

BATCH = (("processing", "batch"),)
AT = datetime(2026, 11, 30, tzinfo=UTC)
ALL_DAYS = (1, 2, 3, 4, 5, 6, 7)


def entry(prices, at=AT, provider="openai", **besides):
    model = {"id": "a-model", "match": {"equals": "a-model"}, "prices": prices} | besides
    (only,) = read(json.dumps([{"id": provider, "models": [model]}]).encode(), at)
    return only


def usd(prices, **besides):
    return entry(prices, **besides).line.usd


def starting(day, **prices):
    return {"constraint": {"start_date": day}, "prices": prices}


def hours(start, end, **prices):
    return {"constraint": {"start_time": start, "end_time": end}, "prices": prices}


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("input_mtok", "input"),
        ("output_mtok", "output"),
        ("cache_read_mtok", "cache_read"),
        ("cache_write_mtok", "cache_write_5m"),
        ("cache_write_5m_mtok", "cache_write_5m"),
        ("cache_write_1h_mtok", "cache_write_1h"),
        ("output_reasoning_mtok", "reasoning"),
        ("input_audio_mtok", "input_audio"),
        ("output_audio_mtok", "output_audio"),
        ("input_image_mtok", "input_image"),
        ("output_image_mtok", "output_image"),
        ("web_searches_kcount", "web_search"),
    ],
)
def test_every_key_is_a_unit_at_the_very_price(key, unit):
    assert usd({key: 0.0028}) == {Place(unit): 2_800}
    assert usd({key: 25}) == {Place(unit): 25_000_000}


def test_what_no_card_can_say_is_left_out_and_said_never_rounded():
    found = entry({"input_mtok": 1, "output_mtok": 0.1234567, "requests_kcount": 12, "cache_read_mtok": 0})
    assert found.line.usd == {Place("input"): 1_000_000}
    assert set(found.left_out) == {
        LeftOut("output_mtok", "has more than six decimals"),
        LeftOut("requests_kcount", "no card has a unit for it"),
        LeftOut("cache_read", "is 0, which may mean unknown"),
    }


def test_a_tier_is_a_band_from_more_tokens_than_its_start_on():
    tiers = {"base": 2.5, "tiers": [{"start": 200_000, "price": 5}, {"start": 500_000, "price": 10}]}
    assert usd({"input_mtok": tiers, "output_mtok": {"base": 1, "tiers": [{"start": 200_000, "price": 2}]}}) == {
        Place("input"): 2_500_000,
        Place("output"): 1_000_000,
        Place("input", 200_000): 5_000_000,
        Place("output", 200_000): 2_000_000,
        Place("input", 500_000): 10_000_000,
        # Of a card the highest band alone counts.
        Place("output", 500_000): 2_000_000,
    }
    assert entry({"input_mtok": {"base": 1, "tiers": [{"start": 9, "price": 0.0000001}]}}).line is None


@pytest.mark.parametrize(
    ("at", "micros"),
    [
        (datetime(2026, 8, 16, 23, 59, tzinfo=UTC), 140_000),
        (datetime(2026, 8, 17, tzinfo=UTC), 220_000),
        (datetime(2026, 9, 10, tzinfo=UTC), 150_000),
        (datetime(2027, 1, 1, tzinfo=UTC), 150_000),
    ],
)
def test_of_dated_prices_the_last_that_has_begun_counts(at, micros):
    prices = [{"prices": {"input_mtok": 0.14}}, starting("2026-08-17", input_mtok=0.22)]
    prices.append(starting("2026-09-10", input_mtok=0.15))
    assert usd(prices, at=at) == {Place("input"): micros}


def test_a_price_that_replaces_another_takes_nothing_from_it():
    prices = [{"prices": {"input_mtok": 1, "output_mtok": 2}}, starting("2026-01-01", input_mtok=3)]
    assert usd(prices) == {Place("input"): 3_000_000}


def test_where_nothing_has_begun_the_first_counts():
    assert usd([starting("2027-01-01", input_mtok=1), starting("2028-01-01", input_mtok=2)]) == {
        Place("input"): 1_000_000
    }


def test_prices_of_some_hours_are_windows_over_those_of_the_day():
    prices = [
        {"prices": {"input_mtok": 0.15}},
        hours("01:00:00Z", "04:00:00Z", input_mtok=0.3),
        hours("06:00:00Z", "10:00:00Z", input_mtok=0.3),
        hours("23:00:00", "00:30:00", input_mtok=0.4),
        hours("10:00:00+08:00", "11:00:00+08:00", input_mtok=0.5),
    ]
    line = entry(prices).line
    assert line.usd == {Place("input"): 150_000}
    # The last in the file comes first: of windows the first that holds counts.
    assert line.windows == (
        Window(("02:00-03:00",), ALL_DAYS, {"input": 500_000}),
        Window(("00:00-00:30", "23:00-24:00"), ALL_DAYS, {"input": 400_000}),
        Window(("01:00-04:00", "06:00-10:00"), ALL_DAYS, {"input": 300_000}),
    )


def test_hours_before_a_price_that_has_begun_since_count_for_nothing():
    prices = [
        {"prices": {"input_mtok": 1}},
        hours("01:00", "04:00", input_mtok=2),
        starting("2026-01-01", input_mtok=3),
    ]
    assert entry(prices).line.windows == ()
    assert entry([hours("01:00", "04:00", input_mtok=2)]).line == ({Place("input"): 2_000_000}, (), {})


def test_a_price_of_some_hours_that_no_card_can_say_leaves_the_whole_line_out():
    tiers = {"base": 1, "tiers": []}
    assert entry([{"prices": {"input_mtok": 1}}, hours("01:00", "04:00", input_mtok=0.0000001)]).line is None
    assert entry([{"prices": {"input_mtok": 1}}, hours("01:00", "04:00", input_mtok=tiers)]).line is None


def test_variants_are_those_that_have_begun_and_the_first_that_names_a_price_gives_it():
    variants = [
        {"when": {"processing": "batch"}, "constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 9}},
        {"when": {"processing": "batch"}, "prices": {"input_mtok": {"base": 1, "tiers": [{"start": 7, "price": 2}]}}},
        {"when": {"processing": "batch"}, "prices": {"input_mtok": 8, "output_mtok": 3}},
        {"when": {"service_tier": "default"}, "prices": {}},
        {"when": {"speed": "fast"}, "constraint": {"start_time": "01:00", "end_time": "02:00"}, "prices": {}},
    ]
    found = entry({"input_mtok": 2, "output_mtok": 6}, price_variants=variants)
    assert found.line.usd == {
        Place("input"): 2_000_000,
        Place("output"): 6_000_000,
        Place("input", None, BATCH): 1_000_000,
        Place("input", 7, BATCH): 2_000_000,
        Place("output", None, BATCH): 3_000_000,
    }
    assert found.left_out == (LeftOut("the variant {'speed': 'fast'}", "holds at some hours only"),)


def test_a_model_is_known_by_its_id_and_the_names_it_is_equal_to_never_by_a_pattern():
    match = {"or": [{"equals": "other"}, {"starts_with": "a-"}, {"or": [{"equals": "third"}]}, {"regex": "^x"}]}
    found = entry({"input_mtok": 1}, match=match, provider="x-ai")
    assert (found.provider, found.names) == ("xai", ("a-model", "other", "third"))


def test_a_model_without_prices_has_no_line():
    assert entry([]).line is None
    assert entry({}).line is None


def test_the_providers_may_stand_beside_the_units():
    providers = [{"id": "openai", "models": [{"id": "m", "prices": {"input_mtok": 1}}]}]
    assert read(json.dumps({"units": {}, "providers": providers}).encode(), AT) == read(
        json.dumps(providers).encode(), AT
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"gpt-5": {"litellm_provider": "openai"}}',
        b'[{"id": "openai"}]',
        b'[{"id": "openai", "models": [{"id": "m"}]}]',
        b'[{"id": "o", "models": [{"id": "m", "prices": [{"constraint": {"start_date": "x"}, "prices": {}}]}]}]',
    ],
)
def test_another_file_is_no_map_of_genai_prices(data):
    with pytest.raises(PriceMapError):
        read(data, AT)
