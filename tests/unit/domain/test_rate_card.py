"""What a card's body may say, and every way in which it is refused."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from factories import PROVIDERS, START, card, card_body, model_line

from services.domain.credits import AMOUNT_MC_MAX
from services.domain.rate_card import (
    InvalidRateCard,
    ModelPrice,
    Ratio,
    end_of_force,
    in_force,
    in_order,
    parse_rate_card,
    require_amounts_fit,
)
from services.domain.scope import ScopeType


def test_a_card_is_read_into_integers():
    read = card("2026-04-27")
    assert read.card == "2026-04-27"
    assert read.effective_from == START
    assert read.usd_micros_per_credit == 5_000
    assert read.own_key_providers == set(PROVIDERS)
    assert read.scope_order == (ScopeType.TEAM, ScopeType.PERSONAL)
    assert read.own_key_node_call_mc == 1_000_000
    assert read.own_key_token_factor == Ratio(1, 2)
    assert read.workflow_run_mc == 1_000_000
    assert read.charge_subflows is False
    assert read.models["openai", "large"] == ModelPrice("expert", 30_000_000, 15_000_000, 7_500_000, 60_000_000)
    assert read.models["mistral", "small"] == ModelPrice("standard", 2_000_000, 150_000, 15_000, 150_000)
    assert len(read.models) == 5


def test_a_tool_has_a_line_of_its_own_or_the_default():
    read = card(tool_call={"credits": 1, "tools": {"web_scrape": 3, "free_tool": 0, "cheap_tool": "0.000001"}})
    prices = {tool: read.tool_price(tool) for tool in ("web_scrape", "free_tool", "cheap_tool", "anything")}
    assert prices == {"web_scrape": 3_000_000, "free_tool": 0, "cheap_tool": 1, "anything": 1_000_000}


@pytest.mark.parametrize(
    ("factor", "ratio"),
    [("0.5", (1, 2)), ("0.123456789", (123_456_789, 10**9)), (0, (0, 1)), (1, (1, 1)), ("1", (1, 1))],
)
def test_a_factor_is_exact_however_many_decimals_it_has(factor, ratio):
    assert card(own_key=card_body()["own_key"] | {"token_factor": factor}).own_key_token_factor == ratio


def test_the_order_of_team_and_personal_key_is_data():
    read = card(own_key=card_body()["own_key"] | {"scope_order": ["personal", "team"]})
    assert read.scope_order == (ScopeType.PERSONAL, ScopeType.TEAM)


MISSING = object()

# Where in the body, what stands there instead, and what the refusal says of it.
REFUSED = [
    *(
        (path, MISSING, r"is missing")
        for path in (
            "usd_per_credit",
            "tiers",
            "own_key",
            "own_key.providers",
            "own_key.scope_order",
            "own_key.node_call_credits",
            "own_key.token_factor",
            "tool_call",
            "tool_call.credits",
            "tool_call.tools",
            "workflow_run",
            "workflow_run.credits",
            "workflow_run.charge_subflows",
            "models",
            "models.openai.small.tier",
            "models.openai.small.input_usd_per_mtok",
            "models.openai.small.cached_input_usd_per_mtok",
            "models.openai.small.output_usd_per_mtok",
        )
    ),
    *((path, [], "must be an object") for path in ("tiers", "tool_call.tools", "models", "models.openai")),
    *(
        (path, value, "must be a list of strings")
        for path in ("own_key.providers", "own_key.scope_order")
        for value in ("openai", ["team", 1], None, {"openai": True})
    ),
    *(
        ("own_key.scope_order", value, "must name team and personal, each once")
        for value in ([], ["team"], ["team", "team"], ["team", "personal", "organization"], ["team", "person"])
    ),
    *(("workflow_run.charge_subflows", value, "must be true or false") for value in (0, 1, "false", None)),
    *(
        (path, value, problem)
        for path in (
            "usd_per_credit",
            "tiers.standard",
            "own_key.node_call_credits",
            "own_key.token_factor",
            "tool_call.credits",
            "tool_call.tools.web_scrape",
            "workflow_run.credits",
            "models.openai.small.input_usd_per_mtok",
        )
        for value, problem in (
            (0.5, "must be a whole number or a decimal in quotes"),
            (True, "must be a whole number or a decimal in quotes"),
            (None, "must be a whole number or a decimal in quotes"),
            ([1], "must be a whole number or a decimal in quotes"),
            ("", "is not a plain decimal number"),
            ("a lot", "is not a plain decimal number"),
            ("NaN", "is not a plain decimal number"),
            ("Infinity", "is not a plain decimal number"),
            ("1e-400000000", "is not a plain decimal number"),
            ("1_0", "is not a plain decimal number"),
            (" 1", "is not a plain decimal number"),
            ("1.", "is not a plain decimal number"),
            ("١", "is not a plain decimal number"),
            ("1.0000000000000000000000000000000001", "is not a plain decimal number"),
            (-1, "must lie between 0 and 1000000"),
            ("-0.1", "must lie between 0 and 1000000"),
            (1_000_001, "must lie between 0 and 1000000"),
            (10**400, "must lie between 0 and 1000000"),
        )
    ),
    *(
        (path, "0.0000001", "has more than six decimals")
        for path in ("usd_per_credit", "tool_call.credits", "models.openai.small.output_usd_per_mtok")
    ),
    ("usd_per_credit", 0, "must be greater than 0"),
    ("usd_per_credit", "0.000000", "must be greater than 0"),
    ("own_key.token_factor", "1.01", "must not exceed 1, or an own key would raise a charge"),
    ("own_key.node_call_credits", "2.000001", "exceeds a tier, so an own key would raise a charge"),
    *(
        ("models.openai.small.tier", value, "is not one of the card's tiers")
        for value in ("luxury", "", 2, None, ["standard"], {"standard": 2})
    ),
]


def _body_with(path, value):
    body = copy.deepcopy(card_body())
    *folders, name = path.split(".")
    place = body
    for folder in folders:
        place = place[folder]
    if value is MISSING:
        del place[name]
    else:
        place[name] = value
    return body


@pytest.mark.parametrize(("path", "value", "problem"), REFUSED)
def test_a_card_that_cannot_be_used_is_refused_and_the_place_is_named(path, value, problem):
    with pytest.raises(InvalidRateCard) as refused:
        parse_rate_card("card-1", START, _body_with(path, value))
    assert str(refused.value).startswith(f"{path}: ")
    assert problem in str(refused.value)


@pytest.mark.parametrize("body", [[], None, "card", 7])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(InvalidRateCard, match="tiers: is missing"):
        parse_rate_card("card-1", START, body)


def test_a_model_line_that_is_no_object_is_refused():
    with pytest.raises(InvalidRateCard, match=r"models\.openai\.small\.tier: is missing"):
        parse_rate_card("card-1", START, _body_with("models.openai.small", "2 USD"))


def test_prices_up_to_the_limit_and_down_to_the_sixth_decimal_are_exact():
    models = {"openai": {"odd": model_line("standard", "1000000", "0.000001", "999999.999999")}}
    assert card(models=models).models["openai", "odd"][2:] == (10**12, 1, 999_999_999_999)


def test_an_own_key_may_cost_as_much_as_the_cheapest_tier():
    assert card(own_key=card_body()["own_key"] | {"node_call_credits": 2}).own_key_node_call_mc == 2_000_000


def test_a_card_without_models_or_tiers_is_a_card():
    assert card(tiers={}, models={}).models == {}


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
    body = card_body(usd_per_credit="0.001", models={"openai": {"o-1.5": model_line("standard", *prices)}})
    return parse_rate_card("card-1", START, body | sections)


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
            {"models": {("x", "y"): ModelPrice("t", AMOUNT_MC_MAX // 10**6 + 1, 0, 0, 0)}},
            "models.x.y.tier: 1,000,000 calls, ",
        ),
    ],
)
def test_calls_have_to_fit_too_should_a_card_ever_be_able_to_name_such_prices(changes, place):
    with pytest.raises(InvalidRateCard) as refused:
        require_amounts_fit(card()._replace(**changes))
    assert str(refused.value).startswith(place)
