"""What a card's body may say, and every way in which it is refused."""

from __future__ import annotations

import copy
import json

import pytest

from services.domain.faults import Fault
from services.domain.rate_card import InvalidRateCard, ModelPrice, Ratio
from services.domain.scope import ScopeType
from services.messages.rate_cards import publishable, read_new_card, read_rate_card
from services.messages.registry_changes import UnreadableChangeError, read_change, to_change
from tests.factories import PROVIDERS, START, card, card_body, model_line


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


@pytest.mark.parametrize("number", [2, 0, "1", True, 1.0, None])
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
    assert card(models=models).models["openai", "odd"][2:] == (10**12, 1, 999_999_999_999)


def test_an_own_key_may_cost_as_much_as_the_cheapest_tier():
    assert card(own_key=card_body()["own_key"] | {"node_call_credits": 2}).own_key_node_call_mc == 2_000_000


def test_a_card_without_models_or_tiers_is_a_card():
    assert card(tiers={}, models={}).models == {}
