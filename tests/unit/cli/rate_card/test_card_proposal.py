"""A card and a map: which models are taken from it, under which names, and what is said of the rest."""

from __future__ import annotations

import pytest

from services.cli.rate_card.differences import Change
from services.cli.rate_card.price_maps.lines import Entry, LeftOut, Line, Place
from services.cli.rate_card.proposal import Added, Wanted, propose
from services.runtime.command_failed import CommandFailed
from tests.factories import card_body, card_body_2

ALIASES = {"openai": {"small-2026": "small", "small-latest": "small"}}
LEFT = LeftOut("videos", "no card has a unit for it")


def entry(*names, provider="openai", left_out=(), **usd):
    line = Line({Place(unit): micros for unit, micros in usd.items()}) if usd else None
    return Entry(provider, names, line, left_out)


def proposed(*entries, body=None, **wanted):
    return propose(body or card_body_2(), entries, ALIASES, Wanted(**wanted))


def test_the_models_of_the_card_are_brought_up_to_date_and_nothing_else_of_it_changes():
    before = card_body_2()
    found = proposed(entry("small", input=500_000, output=2_000_000), entry("new", input=1))
    line = before["models"]["openai"]["small"]
    expected = card_body_2()
    expected["models"]["openai"]["small"] = line | {"usd": line["usd"] | {"input": "0.5"}}
    assert found.body == expected
    assert found.changes == [Change(("models", "openai", "small", "input"), "0.25", "0.5")]
    assert (found.compared, found.kept) == ({"openai": 1}, [(("openai", "small"), "cache_read")])
    assert (found.missing, found.unlisted) == ([("openai", "large")], [("openai", "new")])


def test_the_card_that_is_given_stays_as_it_is():
    body = card_body_2()
    proposed(entry("small", input=500_000), entry("new", input=1), body=body, add_all=True)
    assert body == card_body_2()


def test_another_name_finds_a_model_where_its_own_is_not_there_and_makes_no_new_one():
    other = entry("small-2026", input=500_000)
    assert [change.after for change in proposed(other).changes] == ["0.5"]
    own = entry("small", input=750_000)
    assert [change.after for change in proposed(other, own).changes] == ["0.75"]
    assert proposed(other, own).unlisted == []
    assert proposed(entry("small", provider="groq", input=1)).changes == []


def test_of_two_prices_under_two_names_none_is_taken():
    found = proposed(entry("small-2026", input=500_000), entry("small-latest", input=600_000))
    assert found.changes == []
    assert found.left_out == [
        (("openai", "small"), LeftOut("the model", "the map prices it differently under several names"))
    ]
    same = proposed(entry("small-2026", input=500_000), entry("small-latest", input=500_000))
    assert [change.after for change in same.changes] == ["0.5"]


def test_what_the_map_says_and_no_card_can_is_said():
    assert proposed(entry("small", input=250_000, left_out=(LEFT,))).left_out == [(("openai", "small"), LEFT)]
    found = proposed(entry("small", left_out=(LEFT,)))
    assert found.left_out[0] == (("openai", "small"), LEFT)
    assert found.left_out[1][1].why == "the map has no line for it that a card can say"
    assert proposed(entry("small", input_audio=5)).left_out == [
        (("openai", "small"), LeftOut("input_audio", "the card has no such unit"))
    ]


def test_a_unit_for_another_number_of_is_not_compared():
    body = card_body_2()
    body["units"] = body["units"] | {"web_search": {"per": 1}}
    found = proposed(entry("large", web_search=5), body=body)
    assert (found.changes, [left.what for _, left in found.left_out]) == ([], ["web_search"])


def test_new_models_are_added_on_demand_alone_with_the_tier_that_is_said():
    new = entry("new", "openai/new", input=1_000_000, output=2_000_000, input_audio=7)
    found = proposed(new, entry("newer", input=1), add=["openai/new", "new"], tier="expert")
    assert found.body["models"]["openai"]["new"] == {"tier": "expert", "usd": {"input": "1", "output": "2"}}
    assert found.added == {("openai", "new"): Added("expert", None)}
    assert found.unlisted == [("openai", "newer")]
    assert set(proposed(new, entry("newer", input=1), add_all=True).added) == {("openai", "new"), ("openai", "newer")}


def test_a_tier_that_is_not_said_is_that_of_the_model_whose_price_is_nearest():
    cheap, dear = entry("cheap", input=200_000, output=3_000_000), entry("dear", input=40_000_000, output=9_000_000)
    assert proposed(cheap, dear, add_all=True).added == {
        ("openai", "cheap"): Added("standard", ("openai", "small")),
        ("openai", "dear"): Added("expert", ("openai", "large")),
    }
    with pytest.raises(CommandFailed, match="--tier says its tier"):
        proposed(cheap, body=card_body_2(models={"openai": {}}), add_all=True)


def test_only_the_providers_that_are_asked_for_are_looked_at():
    body = card_body_2()
    body["models"]["groq"] = {"fast": {"tier": "standard", "usd": {"input": "1"}}}
    entries = entry("small", input=1), entry("fast", provider="groq", input=2), entry("a", provider="xai", input=3)
    assert {change.group for change in proposed(*entries, body=body, providers=["groq"]).changes} == {"groq"}
    assert {change.group for change in proposed(*entries, body=body).changes} == {"groq", "openai"}
    added = proposed(*entries, body=body, providers=["xai"], add_all=True)
    assert (list(added.added), added.changes) == ([("xai", "a")], [])
    with pytest.raises(CommandFailed, match="lists no models of xai; --add or --add-all adds some"):
        proposed(*entries, body=body, providers=["xai"])


def test_a_model_to_add_is_one_new_model_of_the_map():
    with pytest.raises(CommandFailed, match=r"--add nwe: is no new model .*; did you mean new\?"):
        proposed(entry("new", input=1), add=["nwe"])
    with pytest.raises(CommandFailed, match="--provider says of which"):
        proposed(entry("small", input=1), add=["qqq"])
    body = card_body_2(models={"openai": card_body_2()["models"]["openai"], "groq": {}})
    both = entry("new", input=1), entry("new", provider="groq", input=1)
    with pytest.raises(CommandFailed, match="say of which provider: openai/new, groq/new"):
        proposed(*both, body=body, add=["new"])
    assert list(proposed(*both, body=body, add=["groq/new"]).added) == [("groq", "new")]


def test_what_has_no_price_for_input_or_two_is_no_new_model():
    entries = entry("a", output=1), entry("b"), entry("c", input=1), entry("c", input=2)
    assert proposed(*entries, add_all=True).added == {}


def test_a_card_of_schema_1_is_not_brought_up_to_date():
    with pytest.raises(CommandFailed, match="by schema 1"):
        proposed(entry("small", input=1), body=card_body())
