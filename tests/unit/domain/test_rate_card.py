"""Rules over a rate card: what a tool costs, when it is in force, and whether what it prices fits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.credits import AMOUNT_MC_MAX
from services.domain.faults import Fault
from services.domain.model_prices import ModelPrice
from services.domain.rate_card import (
    InvalidRateCard,
    end_of_force,
    in_force,
    in_order,
    require_amounts_fit,
)
from tests.factories import START, card, model_line


def test_a_tool_has_a_line_of_its_own_or_the_default():
    read = card(tool_call={"credits": 1, "tools": {"web_scrape": 3, "free_tool": 0, "cheap_tool": "0.000001"}})
    prices = {tool: read.tool_price(tool) for tool in ("web_scrape", "free_tool", "cheap_tool", "anything")}
    assert prices == {"web_scrape": 3_000_000, "free_tool": 0, "cheap_tool": 1, "anything": 1_000_000}


# --- which card is in force -------------------------------------------------------------------------------------------

DAY = timedelta(days=1)
FIRST, ONE, OTHER, LATER = (card(name, START + days * DAY) for name, days in zip("daec", (0, 1, 1, 2), strict=True))
PUBLISHED = (LATER, ONE, OTHER, FIRST)


def test_of_cards_with_one_date_the_last_published_is_in_force():
    cards = in_order(PUBLISHED)
    assert cards == (FIRST, ONE, OTHER, LATER)
    tick = timedelta(microseconds=1)
    expected = [(START - tick, None), (START, FIRST), (START + DAY - tick, FIRST), (START + DAY, OTHER)]
    expected += [(START + 2 * DAY - tick, OTHER), (START + 2 * DAY, LATER), (START + 99 * DAY, LATER)]
    assert [(at, in_force(cards, at)) for at, _ in expected] == expected
    assert in_force(in_order(reversed(PUBLISHED)), START + DAY) == ONE


def test_a_card_ends_where_the_next_date_begins():
    ends = [end_of_force(each, PUBLISHED) for each in (FIRST, ONE, OTHER, LATER)]
    assert ends == [START + DAY, START + 2 * DAY, START + 2 * DAY, None]


# --- what an entry of the ledger holds --------------------------------------------------------------------------------

MOST_USD = "461168.601842"
"""The highest price, for each direction, under which 10^10 tokens in and out fit at 0.001 USD per credit."""


def priced(*prices, **sections):
    return card(usd_per_credit="0.001", models={"openai": {"o-1.5": model_line("standard", *prices)}}, **sections)


def test_a_card_whose_largest_event_fits_is_taken():
    require_amounts_fit(card())
    require_amounts_fit(priced(MOST_USD, "0", MOST_USD))
    # Tiers and tools fit at any price that a card may name.
    most = {"credits": 1_000_000, "tools": {"gold": 1_000_000}}
    require_amounts_fit(card(tiers={"standard": 1_000_000}, models={}, tool_call=most))


@pytest.mark.parametrize(
    "prices",
    [("461168.601843", "0", "461168.601843"), ("0", "461168.601843", "461168.601843"), ("922337.203686", "0", "0")],
)
def test_a_card_under_which_a_legal_event_does_not_fit_is_refused_and_the_place_is_named(prices):
    with pytest.raises(InvalidRateCard) as refused:
        require_amounts_fit(priced(*prices))
    assert str(refused.value).startswith("models.openai.o-1.5: 10,000,000,000 tokens in and as many out, ")
    assert str(refused.value).endswith("an entry of the ledger holds at most 9,223,372,036,854")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"tool_mc": {"web.scrape": AMOUNT_MC_MAX // 10**6 + 1}}, "tool_call.tools.web.scrape: 1,000,000 calls, "),
        ({"tool_call_mc": AMOUNT_MC_MAX // 10**6 + 1}, "tool_call.credits: "),
        (
            {"models": {("x", "y"): ModelPrice("t", AMOUNT_MC_MAX // 10**6 + 1, {})}},
            "models.x.y.tier: 1,000,000 calls, ",
        ),
    ],
)
def test_calls_have_to_fit_too_should_a_card_ever_be_able_to_name_such_prices(changes, place):
    with pytest.raises(InvalidRateCard) as refused:
        require_amounts_fit(card()._replace(**changes))
    assert str(refused.value).startswith(place)


def test_every_place_that_does_not_fit_is_named_and_the_message_tells_the_first_few():
    models = {"openai": {f"m{number}": model_line("standard", "1000000", "0", "0") for number in range(7)}}
    with pytest.raises(InvalidRateCard) as refused:
        require_amounts_fit(card(usd_per_credit="0.001", models=models))
    assert [fault.field for fault in refused.value.faults] == [f"models.openai.m{number}" for number in range(7)]
    assert str(refused.value).count("models.openai.m") == 5
    assert str(refused.value).endswith("; and 2 more")
    assert str(InvalidRateCard(Fault("", "is odd"))) == "is odd"
