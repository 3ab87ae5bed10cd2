"""What a card's body may say, and every way in which it is refused."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from services.domain.credits import Ratio
from services.domain.faults import Fault
from services.domain.model_prices import ModelPrice, Unit
from services.domain.rate_card import InvalidRateCard
from services.domain.scope import ScopeType
from services.messages.rate_cards import publishable, read_new_card, read_rate_card
from services.messages.registry_changes import UnreadableChangeError, read_change, to_change
from tests.factories import PROVIDERS, START, card, card_2, card_body, card_body_2, model_line


def model_price(tier, per_call, fresh, cached, output):
    prices = {"input": fresh, "cache_read": cached, "output": output}
    return ModelPrice(tier, per_call * 1_000_000, prices)


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
    assert read.models["openai", "large"] == model_price("expert", 30, 15_000_000, 7_500_000, 60_000_000)
    assert read.models["mistral", "small"] == model_price("standard", 2, 150_000, 15_000, 150_000)
    assert len(read.models) == 5


@pytest.mark.parametrize(
    ("factor", "ratio"),
    [("0.5", (1, 2)), ("0.123456789", (123_456_789, 10**9)), (0, (0, 1)), (1, (1, 1)), ("1", (1, 1))],
)
def test_a_factor_is_exact_however_many_decimals_it_has(factor, ratio):
    assert card(own_key=card_body()["own_key"] | {"token_factor": factor}).own_key_token_factor == Ratio(*ratio)


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
    *(
        (path, value, "must be an object")
        for path in ("tiers", "tool_call", "tool_call.tools", "models", "models.openai", "models.openai.small")
        for value in ([], "2 USD")
    ),
    *(
        (path, value, "must be a list of strings")
        for path in ("own_key.providers", "own_key.scope_order")
        for value in ("openai", None, {"openai": True})
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


def faults(body, read=publishable):
    with pytest.raises(InvalidRateCard) as refused:
        read("card-1", START, body)
    return refused.value.faults


@pytest.mark.parametrize("read", [publishable, read_rate_card])
@pytest.mark.parametrize(("path", "value", "problem"), REFUSED)
def test_a_card_that_cannot_be_used_is_refused_and_the_place_is_named(path, value, problem, read):
    (fault,) = faults(_body_with(path, value), read)
    assert fault.field == path
    assert problem in fault.detail


@pytest.mark.parametrize("body", [[], None, "card", 7])
def test_a_body_that_is_no_object_is_refused(body):
    assert faults(body) == (Fault("", "must be an object"),)


def test_a_list_names_its_element():
    assert faults(_body_with("own_key.providers", ["openai", 1])) == (Fault("own_key.providers.1", "must be a string"),)


def test_all_that_is_wrong_is_told_at_once():
    body = _body_with("usd_per_credit", 0.005)
    body["own_key"] |= {"node_call_credits": 3, "token_factor": "2", "providers": "openai"}
    del body["workflow_run"]["credits"]
    body["models"]["openai"]["small"] |= {"tier": "luxury", "inptu_usd_per_mtok": "1"}
    body["models"]["anthropic"] = []
    body["colour"] = "red"
    assert [str(fault) for fault in faults(body)] == [
        "usd_per_credit: must be a whole number or a decimal in quotes",
        "own_key.providers: must be a list of strings",
        "own_key.node_call_credits: exceeds a tier, so an own key would raise a charge",
        "own_key.token_factor: must not exceed 1, or an own key would raise a charge",
        "workflow_run.credits: is missing",
        "models.openai.small.tier: 'luxury' is not one of the card's tiers",
        "models.openai.small.inptu_usd_per_mtok: is no place of a rate card; did you mean input_usd_per_mtok?",
        "models.anthropic: must be an object",
        "colour: is no place of a rate card",
    ]


def test_tiers_that_cannot_be_read_are_not_said_again_of_every_model():
    assert [fault.field for fault in faults(_body_with("tiers", None))] == ["tiers"]
    # One amount that is wrong takes no name away, and the others still have to cost as much as with an own key.
    body = _body_with("tiers.standard", "much")
    body["own_key"]["node_call_credits"] = 21
    assert [fault.field for fault in faults(body)] == ["tiers.standard", "own_key.node_call_credits"]


# --- places that no card has ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("usd_per_credits", "usd_per_credit"),
        ("shema", "schema"),
        ("own_key.token_faktor", "token_factor"),
        ("own_key.colour", None),
        ("tool_call.tool", "tools"),
        ("workflow_run.credit", "credits"),
        ("models.openai.small.output_usd_per_mtk", "output_usd_per_mtok"),
        ("models.openai.small.margin", None),
    ],
)
def test_a_place_that_no_card_has_is_refused_where_it_would_be_published_and_ignored_where_it_was(path, near):
    body = _body_with(path, "1")
    (fault,) = faults(body)
    assert fault.field == path
    assert fault.detail == "is no place of a rate card" + (f"; did you mean {near}?" if near else "")
    assert read_rate_card("card-1", START, body) == card()


def test_the_log_is_read_with_places_that_an_earlier_release_let_through():
    change = {"seq": 1, "kind": "rate_card", "changed_at": "2026-04-20T00:00:00Z", "card": "card-1"}
    body = _body_with("models.openai.small.margin", 0.5) | {"note": None}
    change |= {"effective_from": "2026-04-27T00:00:00Z", "body": body}
    assert to_change(read_change(json.dumps(change).encode())) == card()
    change["body"] = _body_with("tiers.standard", 0.5)
    with pytest.raises(UnreadableChangeError, match=r"^rate card card-1: tiers\.standard: must be a whole number"):
        to_change(read_change(json.dumps(change).encode()))


@pytest.mark.parametrize("number", [3, 0, "1", "2", True, 1.0, 2.0, None])
@pytest.mark.parametrize("read", [publishable, read_rate_card])
def test_a_body_may_say_its_schema_and_another_is_never_read_as_this_one(number, read):
    assert read("card-1", START, _body_with("schema", 1)) == card()
    assert [fault.field for fault in faults(_body_with("schema", number), read)] == ["schema"]


@pytest.mark.parametrize("document", [[], None, "card", {"card": "c"}])
def test_a_file_that_holds_no_card_is_refused(document):
    with pytest.raises(InvalidRateCard) as refused:
        read_new_card(document)
    expected = ["effective_from", "body"] if isinstance(document, dict) else [""]
    assert [fault.field for fault in refused.value.faults] == expected


def test_a_file_is_refused_with_all_that_is_wrong_with_it():
    body = _body_with("models.openai.small.margin", 1)
    with pytest.raises(InvalidRateCard) as refused:
        read_new_card({"card": "", "effective_from": "2027-01-01", "body": body, "cards": 1})
    assert [fault.field for fault in refused.value.faults] == [
        *("card", "effective_from", "body.models.openai.small.margin", "cards")
    ]
    assert refused.value.faults[-1].detail.endswith("did you mean card?")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_prices_up_to_the_limit_and_down_to_the_sixth_decimal_are_exact():
    models = {"openai": {"odd": model_line("standard", "1000000", "0.000001", "999999.999999")}}
    assert card(models=models).models["openai", "odd"] == model_price("standard", 2, 10**12, 1, 999_999_999_999)


def test_an_own_key_may_cost_as_much_as_the_cheapest_tier():
    assert card(own_key=card_body()["own_key"] | {"node_call_credits": 2}).own_key_node_call_mc == 2_000_000


def test_a_card_without_models_or_tiers_is_a_card():
    assert card(tiers={}, models={}).models == {}


# --- schema 2 ---------------------------------------------------------------------------------------------------------


def test_a_card_of_schema_2_is_read_into_integers():
    read = card_2()
    small, large = read.models["openai", "small"], read.models["openai", "large"]
    assert small == ModelPrice("standard", 2_000_000, {"input": 250_000, "cache_read": 25_000, "output": 2_000_000})
    # 10 USD per 1,000 searches is 0.01 USD for one, in pico-USD.
    assert large.prices["web_search"] == 10**10
    assert [band.above_input_tokens for band in large.bands] == [1_000, 5_000]
    assert large.windows[0].minutes == ((22 * 60, 24 * 60), (0, 6 * 60 + 30))
    assert large.windows[0].weekdays == {5, 6}
    assert [uplift.times for uplift in large.uplifts] == [Ratio(11, 10), Ratio(2, 1)]
    assert large.variants[0].bands[0].prices == {"input": 15_000_000}
    assert read.units.by_name["cache_read"] == Unit(1_000_000, "input")
    assert read.units.by_name["web_search"] == Unit(1_000)
    assert read.units.inherit == {"reasoning"}
    assert read.units.neutral == {"service_tier": {"default"}}


def test_a_window_without_days_holds_on_all_of_them():
    line = {"tier": "standard", "usd": {"input": 1}, "windows": [{"utc": ["00:00-24:00"], "usd": {"input": 2}}]}
    read = card_2(models={"openai": {"small": line}})
    assert read.models["openai", "small"].windows[0].weekdays == set(range(1, 8))


def test_a_part_of_something_that_is_no_token_is_priced_for_as_many_as_its_whole():
    units = {"search": {"per": 1_000}, "deep_search": {"in": "search"}}
    models = {"openai": {"small": {"tier": "standard", "usd": {"search": 1, "deep_search": 5}}}}
    read = card_2(units=units, inherit=[], models=models)
    assert read.models["openai", "small"].prices == {"search": 10**9, "deep_search": 5 * 10**9}
    assert read.units.by_name["deep_search"] == Unit(1_000, "search")


LARGE_LINE = "models.openai.large"
REFUSED_2 = [
    ("units", None, "units", r"must be an object"),
    (
        "units.cache_read.in",
        "tokens",
        "units.cache_read.in",
        r"'tokens' is not one of the card's units that lie within",
    ),
    ("units.reasoning.in", "cache_read", "units.reasoning.in", r"'cache_read' is not one of the card's units that lie"),
    ("units.cache_read.per", 1_000, "units.cache_read", r"per stands at the unit that it lies in"),
    ("units.web_search.per", 10, "units.web_search.per", r"1, 1000 or 1000000"),
    ("units.web_search.pro", 10, "units.web_search.pro", r"is no place of a rate card; did you mean per\?"),
    ("units.web_search.in_", "input", "units.web_search.in_", r"is no place of a rate card; did you mean in\?"),
    ("schema_", 2, "schema_", r"is no place of a rate card; did you mean schema\?"),
    ("inherit", ["output"], "inherit", r"'output' is not one of the card's units that lie within another"),
    ("inherit", ["video"], "inherit", r"'video' is not one of the card's units that lie within another"),
    ("neutral", {"region": "us"}, "neutral.region", r"must be a list"),
    (f"{LARGE_LINE}.usd", {}, f"{LARGE_LINE}.usd", r"at least 1 item"),
    (f"{LARGE_LINE}.usd", [], f"{LARGE_LINE}.usd", r"must be an object"),
    (f"{LARGE_LINE}.usd.video", "1", f"{LARGE_LINE}.usd", r"'video' is not one of the card's units"),
    (f"{LARGE_LINE}.usd.input", "0.0000001", f"{LARGE_LINE}.usd.input", r"has more than six decimals"),
    (f"{LARGE_LINE}.usd.input", 0.5, f"{LARGE_LINE}.usd.input", r"must be a whole number or a decimal in quotes"),
    (f"{LARGE_LINE}.input_usd_per_mtok", "1", f"{LARGE_LINE}.input_usd_per_mtok", r"is no place of a rate card"),
    (f"{LARGE_LINE}.tier", "gold", f"{LARGE_LINE}.tier", r"'gold' is not one of the card's tiers"),
    (f"{LARGE_LINE}.bands.0.above_input_tokens", 5_000, f"{LARGE_LINE}.bands", r"in the order of above_input_tokens"),
    (f"{LARGE_LINE}.bands.0.above_input_tokens", -1, f"{LARGE_LINE}.bands.0.above_input_tokens", r"greater than"),
    (f"{LARGE_LINE}.bands.0.above", 1, f"{LARGE_LINE}.bands.0.above", r"is no place of a rate card"),
    (f"{LARGE_LINE}.windows.0.utc", ["06:00-06:00"], f"{LARGE_LINE}.windows.0.utc.0", r"must be a span of a day"),
    (f"{LARGE_LINE}.windows.0.utc", ["24:00-24:00"], f"{LARGE_LINE}.windows.0.utc.0", r"must be a span of a day"),
    (f"{LARGE_LINE}.windows.0.utc", [], f"{LARGE_LINE}.windows.0.utc", r"at least 1 item"),
    (f"{LARGE_LINE}.windows.0.weekdays", [0], f"{LARGE_LINE}.windows.0.weekdays.0", r"greater than or equal to 1"),
    (f"{LARGE_LINE}.variants.0.when", {}, f"{LARGE_LINE}.variants.0.when", r"at least 1 item"),
    (f"{LARGE_LINE}.variants.0.when", {"a": 1}, f"{LARGE_LINE}.variants.0.when.a", r"must be a string"),
    (f"{LARGE_LINE}.uplifts.0.times", "0", f"{LARGE_LINE}.uplifts.0.times", r"must be greater than 0"),
    (f"{LARGE_LINE}.uplifts.0.times", "1000.1", f"{LARGE_LINE}.uplifts.0.times", r"at most 1000"),
    (f"{LARGE_LINE}.uplifts.0.times", 1.1, f"{LARGE_LINE}.uplifts.0.times", r"a decimal in quotes"),
]


def changed_2(path, value):
    body = card_body_2()
    place: Any = body
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in above:
        place = place[part]
    place[last] = value
    return body


@pytest.mark.parametrize(("path", "value", "where", "said"), REFUSED_2)
def test_what_a_card_of_schema_2_may_not_say_is_named_by_its_place(path, value, where, said):
    with pytest.raises(InvalidRateCard) as refused:
        publishable("card-2", START, changed_2(path, value))
    (fault,) = [fault for fault in refused.value.faults if fault.field == where]
    assert re.search(said, fault.detail), fault


def test_names_of_units_are_not_missed_where_there_are_no_units_to_be_read():
    with pytest.raises(InvalidRateCard) as refused:
        publishable("card-2", START, changed_2("units", 5))
    assert [fault.field for fault in refused.value.faults] == ["units"]


def test_without_bands_windows_variants_and_uplifts_a_line_of_schema_2_is_one_of_schema_1():
    lines = card_body()["models"]
    models = {
        provider: {
            model: {
                "tier": line["tier"],
                "usd": {
                    "input": line["input_usd_per_mtok"],
                    "cache_read": line["cached_input_usd_per_mtok"],
                    "output": line["output_usd_per_mtok"],
                },
            }
            for model, line in named.items()
        }
        for provider, named in lines.items()
    }
    assert card_2(models=models).models == card().models


def test_a_card_of_schema_2_whose_prices_do_not_fit_is_refused():
    body = changed_2(f"{LARGE_LINE}.variants.1.usd.output", "1000000")
    with pytest.raises(InvalidRateCard, match=r"^models\.openai\.large: 10,000,000,000 tokens in and as many out"):
        publishable("card-2", START, body | {"usd_per_credit": "0.000001"})
