"""A card that may be published prices every event that may be sent; and only such a card does."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.fields import Calls, Tokens
from services.domain.credits import AMOUNT_MC_MAX
from services.domain.rate_card import InvalidRateCard, require_amounts_fit
from services.domain.rating import AmountTooLargeError, rate
from services.domain.usage import CALLS_MAX, TOKENS_MAX
from tests.factories import card, directory, model_line, node_call, token_usage, tool_call

_EXPONENTS = st.integers(min_value=-6, max_value=6)


def _prices():
    """From 0 to the most that a card may name, of every magnitude."""
    return st.one_of(
        st.just("0"),
        st.builds(
            lambda digits, power: f"{min(Decimal(10**6), digits * Decimal(10) ** power):f}",
            st.integers(1, 9),
            _EXPONENTS,
        ),
    )


def _fits(each, event):
    try:
        rating = rate(event, directory(cards=(each,)))
    except AmountTooLargeError:
        return False
    assert rating.amounts.list_mc <= AMOUNT_MC_MAX
    return True


def _may_be_published(each):
    try:
        require_amounts_fit(each)
    except InvalidRateCard:
        return False
    return True


@given(fresh=_prices(), cached=_prices(), output=_prices(), usd_per_credit=_prices().filter(lambda price: price != "0"))
@example(fresh="461168.601842", cached="0", output="461168.601842", usd_per_credit="0.001")
@example(fresh="461168.601842", cached="461168.601843", output="461168.601843", usd_per_credit="0.001")
def test_a_card_may_be_published_where_every_event_that_may_be_sent_fits(fresh, cached, output, usd_per_credit):
    most = {"credits": 10**6, "tools": {"gold": 10**6}}
    models = {"openai": {"small": model_line("standard", fresh, cached, output)}}
    each = card(usd_per_credit=usd_per_credit, tiers={"standard": 10**6}, tool_call=most, models=models)
    tokens = {"input_tokens": TOKENS_MAX, "output_tokens": TOKENS_MAX}
    events = [
        node_call(calls=CALLS_MAX),
        tool_call(calls=CALLS_MAX),
        tool_call(calls=CALLS_MAX, tool="gold"),
        *(token_usage(**tokens, cached_input_tokens=part) for part in (0, 1, TOKENS_MAX // 2, TOKENS_MAX)),
    ]
    assert _may_be_published(each) == all(_fits(each, event) for event in events)


def test_the_largest_counts_are_those_that_a_message_may_hold():
    limits = [next(each.le for each in get_args(field)[1].metadata if hasattr(each, "le")) for field in (Calls, Tokens)]
    assert limits == [CALLS_MAX, TOKENS_MAX]
