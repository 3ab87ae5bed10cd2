"""A price in lines is the price, and an entry's amounts are shared out to the last microcredit."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.domain.credits import Ratio, round_half_even
from services.domain.model_prices import UnpricedError
from services.domain.price_lines import PriceLine, as_one_line, price_by_line, shares
from services.domain.rating import Amounts, rate
from services.domain.resolution import KeySource
from tests.factories import card_2, directory, node_call, request_usage, token_usage, tool_call, workflow_run
from tests.strategies import events, histories


def lines_of(event, rating):
    return price_by_line(event, rating.card, rating.priced_model, rating.resolution.key_source)


def rounded(ratios):
    whole = sum((Fraction(*ratio) for ratio in ratios), Fraction(0))
    return round_half_even(whole.numerator, whole.denominator)


@settings(max_examples=300)
@given(histories(), events())
def test_the_lines_of_an_event_are_together_what_it_costs(log, event):
    try:
        rating = rate(event, directory(*log))
    except UnpricedError:
        assume(False)  # noqa: FBT003
    lines = lines_of(event, rating).lines
    assert rounded(line.list_mc for line in lines) == rating.amounts.list_mc
    assert rounded(line.charged_mc for line in lines) == rating.amounts.charged_mc
    if lines:
        parts = shares(lines, rating.amounts)
        assert sum(part.list_mc for part in parts) == rating.amounts.list_mc
        assert sum(part.charged_mc for part in parts) == rating.amounts.charged_mc
        assert all(part.charged_mc >= 0 and part.saved_mc >= 0 for part in parts)


_ratios = st.builds(Ratio, st.integers(0, 10**9), st.integers(1, 10**4))


@st.composite
def _lines(draw):
    """Lines of one factor, as an own key has one for all of them."""
    factor = draw(st.builds(Ratio, st.integers(0, 7), st.just(7)))
    lists = draw(st.lists(_ratios, min_size=1, max_size=8))
    return [
        PriceLine("u", 1, 1, each, Ratio(each.numerator * factor.numerator, each.denominator * factor.denominator))
        for each in lists
    ]


@given(_lines())
def test_no_line_costs_less_than_nothing_or_more_than_it_lists_at(lines):
    amounts = Amounts(rounded(line.list_mc for line in lines), rounded(line.charged_mc for line in lines))
    parts = shares(lines, amounts)
    assert sum(part.list_mc for part in parts) == amounts.list_mc
    assert sum(part.charged_mc for part in parts) == amounts.charged_mc
    assert all(part.charged_mc >= 0 and part.saved_mc >= 0 for part in parts)
    for line, part in zip(lines, parts, strict=True):
        assert abs(part.list_mc - Fraction(*line.list_mc)) <= 2 * len(lines)


@given(_lines(), st.integers(0, 10**15), st.integers(0, 10**15))
def test_amounts_that_the_lines_do_not_explain_are_shared_out_whole_too(lines, list_mc, charged_mc):
    parts = shares(lines, Amounts(list_mc, charged_mc))
    assert (sum(part.list_mc for part in parts), sum(part.charged_mc for part in parts)) == (list_mc, charged_mc)


@pytest.mark.parametrize(
    ("event", "units"),
    [
        (node_call(calls=3), [("calls", 3, 1)]),
        (tool_call(calls=2), [("calls", 2, 1)]),
        (tool_call(calls=2, succeeded=False), [("calls", 2, 1)]),
        (workflow_run(), [("runs", 1, 1)]),
        (
            token_usage(input_tokens=10, cached_input_tokens=4, output_tokens=5),
            [("input", 6, 10**6), ("cache_read", 4, 10**6), ("output", 5, 10**6)],
        ),
        (token_usage(input_tokens=0, cached_input_tokens=0, output_tokens=0), []),
    ],
)
def test_there_is_a_line_for_each_priced_unit(event, units):
    rating = rate(event, directory())
    assert [(line.unit, line.quantity, line.per) for line in lines_of(event, rating).lines] == units


def test_lines_of_a_request_are_those_of_its_bill():
    event = request_usage({"input": 100, "cache_read": 40, "output": 7, "web_search": 2}, model="large")
    rating = rate(event, directory(cards=(card_2(),)))
    price = lines_of(event, rating)
    counts = {line.unit: (line.quantity, line.per) for line in price.lines}
    assert counts["input"] == (60, 10**6)
    assert counts["web_search"] == (2, 1_000)
    assert {line.unit for line in price.bill.lines} == set(counts)


def test_a_failed_call_costs_nothing_in_its_line_too():
    event = tool_call(calls=2, succeeded=False)
    assert lines_of(event, rate(event, directory())).lines[0].list_mc == Ratio(0, 1)


def test_what_no_card_explains_is_one_line_of_what_it_says():
    event = token_usage(input_tokens=10, cached_input_tokens=0, output_tokens=5, model="nobody's")
    with pytest.raises(UnpricedError, match="nobody's"):
        price_by_line(event, directory().card_at(event.occurred_at), None, KeySource.PLATFORM)
    (line,) = as_one_line(event, Amounts(7, 5)).lines
    assert line == PriceLine("tokens", 15, 10**6, Ratio(7, 1), Ratio(5, 1))
    assert as_one_line(workflow_run(), Amounts(1, 1)).lines[0].unit == "runs"
    assert as_one_line(node_call(calls=4), Amounts(1, 1)).lines[0].quantity == 4
