"""LiteLLM's keys, one by one: which price of a card each of them is, to the last digit."""

from __future__ import annotations

import json

import pytest

from services.cli.rate_card.price_maps.lines import LeftOut, Place, PriceMapError, Window
from services.cli.rate_card.price_maps.litellm import read

BATCH, FLEX, PRIORITY = (("processing", "batch"),), (("service_tier", "flex"),), (("service_tier", "priority"),)
FAST = (("service_tier", "fast"),)


def entry(model, name="a-model", provider="groq"):
    """The one model, with its keys as they are written in the file."""
    keys = ", ".join([f'"litellm_provider": "{provider}"', *(f'"{key}": {value}' for key, value in model.items())])
    (only,) = read(f'{{"{name}": {{{keys}}}}}'.encode())
    return only


def usd(model, **besides):
    return entry(model, **besides).line.usd


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("2.5e-06", 2_500_000),
        ("0.0000025", 2_500_000),
        ("2.5E-6", 2_500_000),
        ("25e-7", 2_500_000),
        ("1e-05", 10_000_000),
        ("3e-09", 3_000),
        ("1e-12", 1),
        ("1.35e-07", 135_000),
        ("0.1e-6", 100_000),
        ("1", 1_000_000_000_000),
    ],
)
def test_a_price_of_one_token_is_that_of_a_million_exactly(written, micros):
    assert usd({"input_cost_per_token": written}) == {Place("input"): micros}


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("1e-13", "has more than six decimals"),
        ("1.0000001e-06", "has more than six decimals"),
        ("2.7777777777777776e-05", "has more than six decimals"),
        ("0.1234567890123456789012345678901234567890", "has more than six decimals"),
        ("1e-999999999", "1E-999999999 is no price"),
        ("1e999999999", "1E+999999999 is no price"),
        ("-1e-06", "-0.000001 is no price"),
        ("1.5", "1.5 is no price"),
        ('"2.5e-06"', "is no number"),
        ("true", "is no number"),
        ("NaN", "is no number"),
        ("0.0", "is 0, which may mean unknown"),
    ],
)
def test_what_no_card_can_say_is_left_out_and_said_never_rounded(written, why):
    found = entry({"input_cost_per_token": written, "output_cost_per_token": "1e-06"})
    assert found.line.usd == {Place("output"): 1_000_000}
    what = "input" if why.startswith("is 0") else "input_cost_per_token"
    assert found.left_out == (LeftOut(what, why),)


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("input_cost_per_token", "input"),
        ("output_cost_per_token", "output"),
        ("cache_read_input_token_cost", "cache_read"),
        ("input_cost_per_token_cache_hit", "cache_read"),
        ("cache_creation_input_token_cost", "cache_write_5m"),
        ("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
        ("cache_creation_input_token_cost_above_12hr", "cache_write_12h"),
        ("input_cost_per_audio_token", "input_audio"),
        ("output_cost_per_audio_token", "output_audio"),
        ("input_cost_per_image_token", "input_image"),
        ("output_cost_per_image_token", "output_image"),
        ("output_cost_per_reasoning_token", "reasoning"),
    ],
)
def test_every_key_for_tokens_is_a_unit_in_every_way_of_being_served(key, unit):
    price = "3.75e-06"
    assert usd({key: price}) == {Place(unit): 3_750_000}
    assert usd({f"{key}_batches": price}) == {Place(unit, None, BATCH): 3_750_000}
    assert usd({f"{key}_flex": price}) == {Place(unit, None, FLEX): 3_750_000}
    assert usd({f"{key}_above_200k_tokens": price}) == {Place(unit, 200_000): 3_750_000}
    assert usd({f"{key}_above_128k_tokens_priority": price}) == {Place(unit, 128_000, PRIORITY): 3_750_000}
    assert usd({f"{key}_above_512_tokens_batches": price}) == {Place(unit, 512, BATCH): 3_750_000}


def test_openai_serves_fast_at_the_price_of_priority_and_nobody_else_does():
    model = {"input_cost_per_token_priority": "2e-06"}
    assert set(usd(model, provider="openai")) == {Place("input", None, PRIORITY), Place("input", None, FAST)}
    assert set(usd(model, provider="gemini")) == {Place("input", None, PRIORITY)}


def test_a_threshold_is_passed_by_more_tokens_and_at_xai_by_as_many():
    model = {"input_cost_per_token_above_200k_tokens": "4e-06"}
    assert set(usd(model, provider="openai")) == {Place("input", 200_000)}
    assert set(usd(model, provider="xai")) == {Place("input", 199_999)}


def test_a_higher_band_says_what_a_lower_one_has_changed_for_the_highest_alone_counts():
    model = {
        "input_cost_per_token": "1e-06",
        "output_cost_per_token": "2e-06",
        "input_cost_per_token_above_128k_tokens": "3e-06",
        "output_cost_per_token_above_256k_tokens": "4e-06",
    }
    assert usd(model) == {
        Place("input"): 1_000_000,
        Place("output"): 2_000_000,
        Place("input", 128_000): 3_000_000,
        Place("output", 256_000): 4_000_000,
        Place("input", 256_000): 3_000_000,
    }


def test_without_a_price_of_a_band_the_whole_line_would_be_wrong_and_without_one_of_a_variant_that_variant():
    plain = {"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06"}
    assert entry(plain | {"input_cost_per_token_above_200k_tokens": "1e-13"}).line is None
    assert entry(plain | {"input_cost_per_token_above_200k_tokens": "0"}).line is None
    assert entry(plain | {"tiered_pricing": '[{"range": [0, 1]}]'}).line is None
    batch = {"input_cost_per_token_batches": "1e-13", "output_cost_per_token_batches": "1e-06"}
    flex = {"output_cost_per_token_flex": "1e-06"}
    assert set(usd(plain | batch | flex)) == {Place("input"), Place("output"), Place("output", None, FLEX)}


def test_two_keys_for_one_price_must_agree():
    same = {"cache_read_input_token_cost": "6e-09", "input_cost_per_token_cache_hit": "6e-09"}
    assert usd(same) == {Place("cache_read"): 6_000}
    other = entry({"input_cost_per_token": "1e-6"} | same | {"input_cost_per_token_cache_hit": "7e-09"})
    assert other.line.usd == {Place("input"): 1_000_000}
    assert other.left_out == (LeftOut("input_cost_per_token_cache_hit", "the map says another price for it, too"),)


def test_a_search_has_a_price_where_it_is_the_same_for_every_size_of_context():
    sizes = {f"search_context_size_{size}": 0.01 for size in ("low", "medium", "high")}
    assert usd({"search_context_cost_per_query": json.dumps(sizes)}) == {Place("web_search"): 10_000_000}
    sizes["search_context_size_high"] = 0.014
    found = entry({"input_cost_per_token": "1e-6", "search_context_cost_per_query": json.dumps(sizes)})
    assert set(found.line.usd) == {Place("input")}
    assert [left.what for left in found.left_out] == ["search_context_cost_per_query"]


def test_factors_for_regions_and_speed_are_uplifts():
    found = entry(
        {
            "input_cost_per_token": "1e-06",
            "regional_processing_uplift_multiplier_eu": "1.1",
            "regional_processing_uplift_multiplier_us": "1",
            "fedramp_uplift_multiplier": "1.25",
            "provider_specific_entry": '{"us": 1.1, "fast": 2.0, "realtime_ga_only": 1, "moon": 3}',
        }
    )
    assert {dict(when).popitem(): str(times) for when, times in found.line.uplifts.items()} == {
        ("region", "eu"): "1.1",
        ("region", "fedramp"): "1.25",
        ("region", "us"): "1.1",
        ("speed", "fast"): "2.0",
    }
    assert found.left_out == (LeftOut("provider_specific_entry.moon", "no card has a condition for it"),)


def off_peak(block):
    return entry({"input_cost_per_token": "3e-07", "off_peak_pricing": json.dumps(block)})


def test_hours_of_lower_prices_are_windows_and_may_go_past_midnight():
    prices = {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "nothing_of_ours": 1}
    rules = [
        {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, "Tue"]},
        {"hours_utc": "00:00-00:00", "weekdays": ["sunday", 6]},
    ]
    micros = {"input": 150_000, "output": 600_000}
    assert off_peak(prices | {"windows": rules}).line.windows == (
        Window(("00:00-01:00", "10:00-24:00"), (1, 2), micros),
        Window(("00:00-24:00",), (6, 7), micros),
    )
    assert off_peak(prices | {"hours_utc": "16:30-00:30"}).line.windows == (
        Window(("16:30-24:00", "00:00-00:30"), (1, 2, 3, 4, 5, 6, 7), micros),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"hours_utc": "16:30"},
        {"hours_utc": "16:30-25:00"},
        {"windows": [{"weekdays": [1]}]},
        {"hours_utc": "01:00-02:00", "weekdays": ["someday"]},
        {"hours_utc": "01:00-02:00", "input_cost_per_token": 1e-13},
        {"hours_utc": "16:30-00:30", "weekday_timezone": "Asia/Shanghai"},
        ["no object"],
    ],
)
def test_hours_that_are_not_understood_leave_the_whole_line_out(block):
    assert off_peak(block).line is None


def test_a_model_is_known_under_its_key_and_without_the_provider_before_it():
    name = "fireworks_ai/accounts/fireworks/models/glm-5"
    found = entry({"input_cost_per_token": "1e-06"}, name=name, provider="fireworks_ai")
    assert found.provider == "fireworks"
    assert found.names == ("glm-5", "accounts/fireworks/models/glm-5", name)
    assert entry({"input_cost_per_token": "1e-06"}, name="gemini/a", provider="gemini").provider == "google"


def test_what_is_no_unit_of_ours_is_said_and_what_is_not_about_money_is_not():
    found = entry({"input_cost_per_token": "1e-6", "google_maps_grounding_cost_per_query": "0.025", "rpm": "5"})
    assert found.left_out == (LeftOut("google_maps_grounding_cost_per_query", "no card has a unit for it"),)


def test_models_that_are_not_billed_by_tokens_and_the_sample_are_no_entries():
    model = {"litellm_provider": "openai", "input_cost_per_token": 1e-6}
    models = {"sample_spec": model, "a": model | {"mode": "chat"}, "b": model | {"mode": "image_generation"}, "c": {}}
    assert [found.names for found in read(json.dumps(models).encode())] == [("a",)]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"a": {"x": 1}}', b"\xff\xfe", b'[{"id": "openai"}]'])
def test_another_file_is_no_map(data):
    with pytest.raises(PriceMapError):
        read(data)
