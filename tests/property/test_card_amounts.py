"""Amounts on a rate card: exact, and taken by the exported schema where the code takes them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.rate_card import RateCardBody, read_body
from services.domain.rate_card import InvalidRateCard
from services.messages.rate_cards import read_rate_card
from tests.factories import card_body

SCHEMA = RateCardBody.model_json_schema()
PLACES = {
    "usd_per_credit": lambda amount: card_body(usd_per_credit=amount),
    "tiers": lambda amount: card_body(tiers={"only": amount}, models={}, own_key=_free()),
    "token_factor": lambda amount: card_body(own_key=_free() | {"token_factor": amount}),
}


def _free():
    return card_body()["own_key"] | {"node_call_credits": 0}


DIGITS = st.text("0159", max_size=10)
WRITTEN = st.one_of(
    st.integers(-2, 2),
    st.integers(-(10**7), 10**7),
    st.builds(lambda whole, rest: f"{whole}.{rest}", DIGITS, st.text("019", max_size=17)),
    st.builds(lambda whole, rest: f"{whole}.{rest}", st.sampled_from(["0", "1", "1000000"]), st.text("01", max_size=8)),
    DIGITS,
    st.text("0123456789.+-e _", max_size=6),
)


@pytest.mark.parametrize("place", PLACES)
@given(amount=WRITTEN)
@example(amount="001000000.000000000000000")
@example(amount="0001000000")
@example(amount="000999999.999999000000000")
@example(amount="0.0000010")
@example(amount="0.0000001")
def test_the_schema_takes_the_amounts_that_the_code_takes(place, amount):
    body = PLACES[place](amount)
    try:
        read_rate_card("card-1", None, body)
        taken = True
    except InvalidRateCard:
        taken = False
    # A zero with a sign is taken as ever, and nobody has to write one.
    if not (isinstance(amount, str) and amount.startswith("-")):
        assert Draft202012Validator(SCHEMA).is_valid(body) == taken


@given(micros=st.integers(0, 10**12), zeros=st.integers(0, 9))
def test_an_amount_is_held_as_exact_millionths(micros, zeros):
    whole, rest = divmod(micros, 10**6)
    text = f"{whole}.{rest:06}{'0' * zeros}"
    assert read_body(PLACES["tiers"](text), unknown="forbid").tiers["only"] == micros


@given(digits=st.integers(0, 10**15 - 1))
def test_a_factor_is_held_exactly(digits):
    text = f"0.{digits:015}"
    assert Fraction(*read_rate_card("c", None, PLACES["token_factor"](text)).own_key_token_factor) == Fraction(text)
