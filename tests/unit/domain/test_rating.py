"""Golden prices, worked out by hand from the help article, docs/contract.md, section 5, and the model prices."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest

from services.domain.directory import ModelAliases
from services.domain.model_prices import ImpossibleUsageError, UnpricedConditionError, UnpricedUnitError
from services.domain.rating import (
    Amounts,
    AmountTooLargeError,
    NoRateCardError,
    UnpricedModelError,
    price_of,
    rate,
)
from services.domain.resolution import Flag, KeySource, Reason, Resolution
from services.domain.usage import Claim
from services.key_registry.rate_cards import packaged_cards
from tests.factories import (
    NOON,
    PLATFORM_CLAIM,
    card,
    card_2,
    card_body,
    credential,
    directory,
    model_line,
    node_call,
    plan,
    request_usage,
    token_usage,
    tool_call,
    utc,
    workflow_run,
)

MICROSECOND = timedelta(microseconds=1)
SHIPPED = tuple(document.parse() for document in packaged_cards())
LATER = utc("2026-11-02T10:00:00")


def shipped(*, own_key_for=None):
    keys = () if own_key_for is None else (plan("pro"), credential("my-key", provider=own_key_for))
    return directory(*keys, cards=SHIPPED)


def amounts(event, known):
    found = rate(event, known).amounts
    return found.list_mc, found.charged_mc, found.saved_mc


# --- node calls: 2, 20 or 30 credits per call; 1 with an own key ------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "tier", "credits_per_call"),
    [
        ("openai", "gpt-5-nano", "standard", 2),
        ("openai", "gpt-5", "advanced", 20),
        ("openai", "gpt-5-pro", "expert", 30),
        ("anthropic", "claude-sonnet-4-5", "advanced", 20),
        ("anthropic", "claude-opus-4-5", "expert", 30),
        ("fireworks", "gpt-oss-20b", "standard", 2),
    ],
)
@pytest.mark.parametrize("calls", [1, 3, 1_000_000])
def test_a_node_call_lists_at_its_tier_and_costs_one_credit_with_an_own_key(
    provider, model, tier, credits_per_call, calls
):
    event = node_call(provider=provider, model=model, calls=calls)
    list_mc, own_mc = credits_per_call * 1_000_000 * calls, 1_000_000 * calls
    assert rate(event, shipped()).tier == tier
    assert amounts(event, shipped()) == (list_mc, list_mc, 0)
    assert amounts(event, shipped(own_key_for=provider)) == (list_mc, own_mc, list_mc - own_mc)


def test_an_expert_call_with_an_own_key_saves_up_to_97_percent():
    list_mc, _charged, saved = amounts(node_call(model="gpt-5-pro"), shipped(own_key_for="openai"))
    assert round(Fraction(saved, list_mc) * 100, 2) == Fraction("96.67")


def test_a_model_of_a_provider_that_takes_no_own_keys_costs_its_list_price():
    event = node_call(provider="mistral", model="mistral-large-3")
    found = rate(event, shipped(own_key_for="mistral"))
    assert found.amounts == Amounts(2_000_000, 2_000_000)
    assert found.resolution.reason is Reason.PROVIDER_NOT_SUPPORTED


# --- agents: USD of the tokens over 0.005 USD per credit; half of it with an own key ----------------------------------


@pytest.mark.parametrize(
    ("model", "tokens", "list_mc", "charged_mc"),
    [
        # gpt-5: 1.25, 0.125 and 10 USD per million. 0.00125 + 0.002 = 0.00325 USD = 0.65 credits.
        pytest.param("gpt-5", (1_000, 0, 200), 650_000, 325_000, id="fresh input and output"),
        # 600 fresh 0.00075, 400 cached 0.00005, output 0.002: 0.0028 USD = 0.56 credits.
        pytest.param("gpt-5", (1_000, 400, 200), 560_000, 280_000, id="cached input is part of the input"),
        pytest.param("gpt-5", (1_000, 1_000, 0), 25_000, 12_500, id="all of it cached"),
        pytest.param("gpt-5", (0, 0, 0), 0, 0, id="nothing"),
        # o1-pro: 150 and 600 USD per million. 10^10 each: 1.5 and 6 million USD = 1.5 billion credits.
        pytest.param("o1-pro", (10**10, 0, 10**10), 1_500_000_000 * 10**6, 750_000_000 * 10**6, id="the most there is"),
        # gpt-5-nano: a cached token is 0.005 USD per million = 1 mc; half of 1, 3, 5 and 7 mc are ties.
        pytest.param("gpt-5-nano", (1, 1, 0), 1, 0, id="0.5 to the even 0"),
        pytest.param("gpt-5-nano", (3, 3, 0), 3, 2, id="1.5 to the even 2"),
        pytest.param("gpt-5-nano", (5, 5, 0), 5, 2, id="2.5 to the even 2"),
        pytest.param("gpt-5-nano", (7, 7, 0), 7, 4, id="3.5 to the even 4"),
    ],
)
def test_tokens_cost_their_usd_price_and_exactly_half_with_an_own_key(model, tokens, list_mc, charged_mc):
    fresh, cached, output = tokens
    event = token_usage(model=model, input_tokens=fresh, cached_input_tokens=cached, output_tokens=output)
    assert amounts(event, shipped()) == (list_mc, list_mc, 0)
    assert amounts(event, shipped(own_key_for="openai")) == (list_mc, charged_mc, list_mc - charged_mc)


@pytest.mark.parametrize(
    ("tokens", "list_mc", "charged_mc"),
    # At 0.0025 USD per million a token is 0.5 mc, with an own key 0.25 mc.
    [(1, 0, 0), (2, 1, 0), (3, 2, 1), (5, 2, 1), (6, 3, 2), (7, 4, 2), (10, 5, 2), (11, 6, 3)],
)
def test_list_and_charged_are_each_rounded_once_from_the_exact_amount(tokens, list_mc, charged_mc):
    cheap = card(models={"openai": {"small": model_line("standard", "0.0025", "0", "0")}})
    known = directory(plan("pro"), credential(), cards=(cheap,))
    assert amounts(token_usage(input_tokens=tokens), known) == (list_mc, charged_mc, list_mc - charged_mc)


def test_charged_is_no_half_of_a_rounded_list_price():
    # deepseek-v4-flash, cached: 0.006 USD per million = 1.2 mc a token, so 0.6 with an own key: both round to 1.
    event = token_usage(
        provider="deepseek", model="deepseek-v4-flash", input_tokens=1, cached_input_tokens=1, occurred_at=LATER
    )
    assert amounts(event, shipped(own_key_for="deepseek")) == (1, 1, 0)


def test_the_factor_and_the_price_of_a_credit_stand_on_the_card():
    dear = card(
        usd_per_credit="0.01", own_key=card_body()["own_key"] | {"token_factor": "0.25", "node_call_credits": 0}
    )
    known = directory(plan("pro"), credential(), cards=(dear,))
    # 1,000 tokens at 0.25 USD per million are 0.00025 USD = 0.025 credits.
    assert amounts(token_usage(), known) == (25_000, 6_250, 18_750)
    assert amounts(node_call(calls=2), known) == (4_000_000, 0, 4_000_000)


# --- tools and workflows: the same with any key -----------------------------------------------------------------------


@pytest.mark.parametrize("own_key", [None, "openai"])
@pytest.mark.parametrize(
    ("event", "mc"),
    [
        (tool_call(), 1_000_000),
        (tool_call(calls=7), 7_000_000),
        (tool_call(succeeded=False), 0),
        (tool_call(calls=7, succeeded=False), 0),
        (workflow_run(), 1_000_000),
        (workflow_run(parent_run_id="run-0"), 0),
    ],
)
def test_tools_and_workflow_runs_cost_the_same_with_an_own_key(event, mc, own_key):
    found = rate(event, shipped(own_key_for=own_key))
    assert found.amounts.saved_mc == 0
    assert found.amounts == Amounts(mc, mc)
    assert found.tier is None
    assert found.resolution == Resolution(KeySource.NONE, Reason.NOT_MODEL_USAGE, None, ())


@pytest.mark.parametrize(
    ("tool", "calls", "succeeded", "mc"),
    [("web_scrape", 1, True, 3_000_000), ("web_scrape", 4, True, 12_000_000), ("web_scrape", 4, False, 0)],
)
def test_a_tool_with_a_line_of_its_own_costs_that(tool, calls, succeeded, mc):
    assert amounts(tool_call(tool=tool, calls=calls, succeeded=succeeded), directory()) == (mc, mc, 0)


@pytest.mark.parametrize(
    ("charge_subflows", "parent", "mc"),
    [(False, None, 1_500_000), (False, "run-0", 0), (True, None, 1_500_000), (True, "run-0", 1_500_000)],
)
def test_the_card_decides_whether_subflows_are_charged(charge_subflows, parent, mc):
    known = directory(cards=(card(workflow_run={"credits": "1.5", "charge_subflows": charge_subflows}),))
    assert amounts(workflow_run(parent_run_id=parent), known) == (mc, mc, 0)


# --- which card -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("2026-04-27T00:00:00Z", "2026-04-27"),
        ("2026-10-31T23:59:59.999999Z", "2026-04-27"),
        ("2026-11-01T00:00:00Z", "2026-11-01"),
        ("2026-11-01T00:59:59+01:00", "2026-04-27"),
        ("2026-11-19T23:59:59.999999Z", "2026-11-01"),
        ("2100-12-31T23:59:59.999999Z", "2026-11-20"),
    ],
)
def test_an_event_is_priced_by_the_card_in_force_at_its_time(at, name):
    for event in (node_call(model="gpt-5", occurred_at=utc(at)), tool_call(occurred_at=utc(at))):
        assert rate(event, shipped()).card.card == name


@pytest.mark.parametrize("event", [node_call(model="gpt-5"), token_usage(model="gpt-5"), tool_call(), workflow_run()])
def test_before_the_first_card_there_is_no_price(event):
    with pytest.raises(NoRateCardError, match=r"no rate card is in force at 2026-04-26T23:59:59\.999999"):
        rate(event._replace(occurred_at=utc("2026-04-27") - MICROSECOND), shipped())


def test_a_model_that_only_the_second_card_lists_has_no_price_before_it():
    event = node_call(model="gpt-6-astra", occurred_at=utc("2026-11-01") - MICROSECOND)
    with pytest.raises(UnpricedModelError, match="2026-04-27 has no price for openai/gpt-6-astra"):
        rate(event, shipped())
    assert amounts(event._replace(occurred_at=utc("2026-11-01")), shipped()) == (30_000_000, 30_000_000, 0)


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "GPT-5"), ("openai", "claude-opus-4-5"), ("unheard", "gpt-5"), ("openai", "")]
)
def test_no_price_is_guessed_for_an_unknown_model(provider, model):
    with pytest.raises(UnpricedModelError):
        rate(token_usage(provider=provider, model=model), shipped(own_key_for="openai"))


def test_an_amount_that_no_entry_holds_is_no_price():
    models = {"openai": {"small": model_line("standard", "1000000", "0", "0")}}
    known = directory(cards=(card("dear", usd_per_credit="0.001", models=models),))
    fits = token_usage(input_tokens=9_223_372_036)
    assert rate(fits, known).amounts == Amounts(9_223_372_036 * 10**9, 9_223_372_036 * 10**9)
    told = (
        r"by rate card dear it comes to 9,223,372,037,000 credits, and an entry holds at most 9,223,372,036,854\.775807"
    )
    with pytest.raises(AmountTooLargeError, match=told):
        rate(fits._replace(input_tokens=9_223_372_037), known)


# --- claims move the price --------------------------------------------------------------------------------------------


def test_what_the_runner_claims_decides_the_price_where_it_can_be_true():
    known = shipped(own_key_for="openai")
    event = node_call(model="gpt-5")
    fallback = rate(event._replace(claim=PLATFORM_CLAIM), known)
    assert fallback.amounts == Amounts(20_000_000, 20_000_000)
    assert fallback.resolution.flags == (Flag.PLATFORM_FALLBACK,)
    ended = directory(
        plan("pro"), credential("my-key", active=(credential().active[0]._replace(end=NOON),)), cards=SHIPPED
    )
    claimed = event._replace(claim=Claim("my-key"), occurred_at=NOON + timedelta(seconds=300))
    assert amounts(claimed, ended) == (20_000_000, 1_000_000, 19_000_000)
    assert amounts(claimed._replace(occurred_at=NOON + timedelta(seconds=300, microseconds=1)), ended)[2] == 0


# --- by unit ----------------------------------------------------------------------------------------------------------

BY_UNIT = (card_2(),)


def test_usage_by_unit_costs_its_bill_and_half_of_it_with_an_own_key():
    event = request_usage({"input": 100, "cache_read": 60, "output": 10})
    # 40 × 0.25 + 60 × 0.025 + 10 × 2 USD per million is 31.5 × 10^-6 USD; a credit is 0.005 USD.
    assert amounts(event, directory(cards=BY_UNIT)) == (6_300, 6_300, 0)
    assert amounts(event, directory(plan("pro"), credential(), cards=BY_UNIT)) == (6_300, 3_150, 3_150)


def test_list_and_charged_are_rounded_once_each_after_every_uplift():
    event = request_usage({"output": 1}, {"region": "us"}, model="large")
    # 60 × 1.1 USD per million is 13,200 mc; a fee has no uplift: 0.01 USD a search.
    assert amounts(event, directory(cards=BY_UNIT)) == (13_200, 13_200, 0)
    search = request_usage({"output": 1, "web_search": 1}, {"region": "us"}, model="large")
    assert amounts(search, directory(cards=BY_UNIT)) == (2_013_200, 2_013_200, 0)


def test_under_a_card_of_schema_1_input_cache_and_output_have_its_prices():
    event = request_usage({"input": 1_000, "cache_read": 400, "output": 30})
    before = token_usage(input_tokens=1_000, cached_input_tokens=400, output_tokens=30)
    assert rate(event, directory()).amounts == rate(before, directory()).amounts


@pytest.mark.parametrize(
    ("usage", "conditions", "refused"),
    [
        ({"input": 1, "reasoning": 0}, {}, None),
        ({"output": 1, "reasoning": 1}, {}, UnpricedUnitError),
        ({"input": 1, "web_search": 1}, {}, UnpricedUnitError),
        ({"input": 1}, {"service_tier": "default"}, UnpricedConditionError),
        ({"input": 1, "cache_read": 2}, {}, ImpossibleUsageError),
    ],
)
def test_under_a_card_of_schema_1_no_other_unit_and_no_condition_has_a_price(usage, conditions, refused):
    event = request_usage(usage, conditions)
    if refused is None:
        assert rate(event, directory()).amounts.list_mc > 0
        return
    with pytest.raises(refused):
        rate(event, directory())


def test_what_has_no_price_is_said_with_the_card_and_the_model():
    with pytest.raises(UnpricedUnitError, match=r"^rate card card-2 has no price for image for openai/small$"):
        rate(request_usage({"input": 1, "image": 1}), directory(cards=BY_UNIT))
    with pytest.raises(
        UnpricedConditionError, match=r"^rate card card-2 does not say what region us costs for openai/small$"
    ):
        rate(request_usage(conditions={"region": "us"}), directory(cards=BY_UNIT))


def test_counts_that_cannot_be_true_are_said_before_a_model_without_a_price():
    with pytest.raises(ImpossibleUsageError):
        rate(request_usage({"cache_read": 1}, model="unheard-of"), directory(cards=BY_UNIT))


def test_events_that_may_sum_up_many_requests_have_the_plain_prices():
    late, large = utc("2026-05-08T23:00:00"), {"model": "large", "occurred_at": utc("2026-05-08T23:00:00")}
    assert BY_UNIT[0].models["openai", "large"].windows[0].holds(late)
    event = token_usage(input_tokens=6_000, cached_input_tokens=1_000, output_tokens=100, **large)
    assert amounts(event, directory(cards=BY_UNIT))[0] == (5_000 * 15 + 1_000 * 1.5 + 100 * 60) * 200


def test_an_event_that_sums_up_has_no_price_for_what_the_model_does_not_price():
    uncached = card_2(models={"openai": {"small": {"tier": "standard", "usd": {"input": "1", "output": "1"}}}})
    assert amounts(token_usage(), directory(cards=(uncached,)))[0] == 200_000
    with pytest.raises(UnpricedUnitError, match="cache_read"):
        rate(token_usage(cached_input_tokens=1), directory(cards=(uncached,)))


def test_a_partial_answer_is_flagged_beside_what_else_is_to_be_looked_into():
    known = directory(plan("pro"), credential(), cards=BY_UNIT)
    assert rate(request_usage(is_partial=True), known).resolution.flags == (Flag.USAGE_PARTIAL,)
    claimed = request_usage(is_partial=True, claim=PLATFORM_CLAIM)
    assert rate(claimed, known).resolution.flags == (Flag.PLATFORM_FALLBACK, Flag.USAGE_PARTIAL)
    assert rate(request_usage(), known).resolution.flags == ()


# --- by another name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [node_call, token_usage, request_usage])
def test_a_model_is_priced_by_another_name_for_every_type_of_event(event):
    known = directory(ModelAliases("openai", {"openai/small": "small"}))
    by_name, by_alias = rate(event(), known), rate(event(model="openai/small"), known)
    assert by_alias.amounts == by_name.amounts
    assert (by_name.priced_model, by_alias.priced_model) == (None, "small")
    assert price_of(event(model="openai/small"), by_alias) == known.cards[0].models["openai", "small"]


def test_a_model_without_a_price_is_said_with_the_names_that_may_have_been_meant():
    with pytest.raises(UnpricedModelError, match=r"no price for openai/smal; did you mean small\?$"):
        rate(node_call(model="smal"), directory())
    with pytest.raises(UnpricedModelError, match=r"no price for openai/xyz$"):
        rate(node_call(model="xyz"), directory())
