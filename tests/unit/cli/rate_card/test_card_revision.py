"""A line of a card and what a map states: what is charged already stays as it is written, what is not stated stays."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rate_card import RateCardBody2, read_body
from services.cli.rate_card.price_maps.lines import Line, Place, Window
from services.cli.rate_card.revision import charged, differing, line_of, revise, written
from services.key_registry.rate_cards import packaged_cards
from tests.factories import card_body_2

BATCH, FAST, US = (("processing", "batch"),), (("speed", "fast"),), (("region", "us"),)
PARENTS = {"reasoning": "output"}
WINDOW = Window(("22:00-24:00", "00:00-06:30"), (5, 6), {"output": 6})


def revised(card, stated, **of_stated):
    revision = revise(card if isinstance(card, Line) else Line(card), Line(stated, **of_stated), PARENTS)
    assert revise(revision.line, Line(stated, **of_stated), PARENTS).line == revision.line
    return revision


def usd(card, stated, **besides):
    return revised(card, stated, **besides).line.usd


def test_a_price_that_differs_is_replaced_and_one_that_is_not_there_is_gained():
    assert usd({Place("input"): 1, Place("output"): 2}, {Place("input"): 3, Place("cache_read"): 4}) == {
        Place("input"): 3,
        Place("output"): 2,
        Place("cache_read"): 4,
    }
    assert revised({Place("input"): 1, Place("output"): 2}, {Place("input"): 3}).kept == ("output",)


def test_what_is_charged_already_is_not_written_a_second_time():
    card = {Place("input"): 1, Place("output"): 2, Place("input", 9): 5, Place("input", None, BATCH): 3}
    stated = {
        Place("input"): 1,
        Place("output"): 2,
        Place("reasoning"): 2,
        Place("input", 9): 5,
        Place("output", 9): 2,
        Place("reasoning", 9): 2,
        Place("output", None, BATCH): 2,
    }
    assert usd(card, stated) == card
    assert revised(card, stated).kept == ("batch input",)


def test_a_price_over_which_nothing_was_laid_is_stated_where_it_no_longer_holds():
    card = {Place("input"): 1, Place("output"): 2, Place("output", None, BATCH): 1}
    stated = {Place("input"): 4, Place("input", None, BATCH): 1}
    assert usd(card, stated) == card | stated


def test_bands_at_limits_that_the_map_does_not_have_go_and_all_stay_where_it_has_none():
    card = {Place("input"): 1, Place("input", 100): 2, Place("output", 100): 3, Place("input", 100, BATCH): 4}
    moved = {Place("input"): 1, Place("input", 200): 2}
    assert usd(card, moved) == {Place("input"): 1, Place("input", 200): 2, Place("input", 100, BATCH): 4}
    assert usd(card, {Place("input"): 1}) == card
    assert revised(card, {Place("input"): 1}).kept == ("input above 100", "output above 100", "batch input above 100")


def test_a_higher_band_leaves_what_the_one_below_it_has_changed():
    card = {Place("input"): 1, Place("cache_read"): 1, Place("input", 100): 2, Place("cache_read", 100): 3}
    stated = {Place("input", 100): 2, Place("input", 200): 4}
    assert usd(card, stated) == card | {Place("input", 200): 4, Place("cache_read", 200): 3}
    two = {Place("input", 100): 2, Place("input", 200): 2, Place("output", 200): 5}
    assert usd({Place("input"): 1, Place("output"): 4}, two) == {Place("input"): 1, Place("output"): 4} | two


def test_windows_are_replaced_as_a_whole_and_stay_where_the_map_has_none():
    card = Line({Place("output"): 1}, (WINDOW,))
    other = WINDOW._replace(weekdays=(1, 2))
    turned = WINDOW._replace(utc=WINDOW.utc[::-1])
    assert revised(card, {}, windows=(other,)).line.windows == (other,)
    assert revised(card, {}, windows=(turned,)).line.windows == (WINDOW,)
    assert revised(card, {}).kept == ("output", "windows")


def test_a_variant_that_says_what_a_factor_says_changes_nothing():
    card = Line({Place("input"): 10, Place("output"): 30, Place("web_search"): 5}, (), {FAST: Decimal(2)})
    stated = {Place("input", None, FAST): 20, Place("output", None, FAST): 60, Place("web_search", None, FAST): 5}
    assert revised(card, stated).line == card


def test_a_variant_that_says_otherwise_takes_the_place_of_the_factor_or_both_would_be_charged():
    card = Line({Place("input"): 10, Place("output"): 30}, (), {FAST: Decimal(2), US: Decimal("1.1")})
    line = revised(card, {Place("input", None, FAST): 25}).line
    assert line == Line({**card.usd, Place("input", None, FAST): 25}, (), {US: Decimal("1.1")})


def test_a_new_variant_for_more_conditions_comes_before_those_for_fewer_or_it_would_never_be_taken():
    both = (("processing", "batch"), ("service_tier", "flex"))
    line = revised({Place("input"): 4, Place("input", None, BATCH): 2}, {Place("input", None, both): 1}).line
    assert [each["when"] for each in written("standard", line, ["input"])["variants"]] == [dict(both), dict(BATCH)]


def test_a_factor_is_gained_and_changed_and_never_laid_over_prices_for_the_same():
    card = Line({Place("input"): 10, Place("input", None, FAST): 20}, (), {US: Decimal("1.1")})
    found = revised(card, {}, uplifts={US: Decimal("1.2"), (("region", "eu"),): Decimal("1.1"), FAST: Decimal(2)})
    assert found.line.uplifts == {US: Decimal("1.2"), (("region", "eu"),): Decimal("1.1")}
    assert found.left_out == ()
    (left,) = revised(card, {}, uplifts={FAST: Decimal(3)}).left_out
    assert left.what == "speed fast times 3"
    assert revised(card, {}).kept == ("input", "fast input", "factor for region us")


def test_every_packaged_line_is_read_and_written_as_it_stands():
    """So that a line in which one price changes differs in that price alone."""
    for document in (packaged_cards()[-1].body, card_body_2()):
        body = read_body(document, unknown="forbid")
        assert isinstance(body, RateCardBody2)
        for provider, models in body.models.items():
            for name, model in models.items():
                assert written(model.tier, line_of(model), body.units) == document["models"][provider][name]


def test_differences_are_told_place_by_place():
    before = Line({Place("input"): 1_000_000, Place("output"): 2_500_000}, (WINDOW,), {US: Decimal("1.1")})
    after = Line({Place("input"): 1_000_000, Place("input", 1_000, BATCH): 10}, (), {US: Decimal("1.20")})
    assert list(differing(before, after)) == [
        ("output", "2.5", None),
        ("batch input above 1,000", None, "0.00001"),
        ("windows", "22:00-24:00, 00:00-06:30 on 2 days", None),
        ("factor for region us", "1.1", "1.2"),
    ]
    assert list(differing(before, before)) == []


UNITS = st.sampled_from(["input", "cache_read", "output", "reasoning"])
PLACES = st.builds(Place, UNITS, st.sampled_from([None, 100, 200]), st.sampled_from([(), BATCH, FAST]))
PRICES = st.dictionaries(PLACES, st.integers(1, 4))


@settings(max_examples=300)
@given(PRICES, PRICES)
def test_what_the_map_states_is_what_is_charged_afterwards(card, stated):
    after = revise(Line(card), Line(stated), PARENTS).line.usd
    assert {place: charged(after, place, PARENTS) for place in stated} == stated
