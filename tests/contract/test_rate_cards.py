"""The packaged cards are the price lists, line by line; a published card never changes; the schema is the code's."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import re
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from services.domain.credits import Ratio
from services.domain.model_prices import ModelPrice
from services.domain.rate_card import InvalidRateCard
from services.domain.scope import ScopeType
from services.key_registry.rate_cards import packaged_cards
from services.messages.rate_cards import read_new_card
from tests.factories import PROVIDERS, utc

ROOT = Path(__file__).parents[2]
FIRST, SECOND, THIRD = "2026-04-27", "2026-11-01", "2026-11-20"
SHIPPED = (FIRST, SECOND, THIRD)
TIER_CREDITS = {"standard": 2, "advanced": 20, "expert": 30}
PUBLISHED = {
    "2026-04-27.json": "f7651fe3907ac3d1831c47b3fdf3160a343c529928d719f852b6bd79fd1f8e56",
    "2026-11-01.json": "6ed43f0ab4e91f098aaeb6200566c8495aa7e22de1f477f74ba6633e9c40772b",
    "2026-11-20.json": "6c92a60eaac7a933e3b5084ad8245b3d0f6c1bc8f9ad836174fa7bd442bebf34",
}

with (Path(__file__).parent / "data" / "model-prices.csv").open(newline="", encoding="utf-8") as prices:
    LINES = list(csv.DictReader(prices))


@pytest.fixture(scope="module")
def cards():
    return {document.card: document.parse() for document in packaged_cards()}


def listed_in(card):
    """The first card that lists a model is named; later cards keep it (docs/contract.md, section 5)."""
    return [line for line in LINES if line["in_rate_card"] <= card]


def micro_usd(text):
    scaled = Decimal(text) * 1_000_000
    assert scaled == int(scaled)
    return int(scaled)


def test_three_cards_ship_each_from_midnight_utc(cards):
    assert {name: card.effective_from for name, card in cards.items()} == {name: utc(name) for name in SHIPPED}
    assert tuple(document.card for document in packaged_cards()) == SHIPPED


@pytest.mark.parametrize(("card", "models"), [(FIRST, 71), (SECOND, 100)])
def test_a_card_lists_exactly_the_models_of_the_price_list(cards, card, models):
    expected = {(line["provider"], line["model"]) for line in listed_in(card)}
    assert set(cards[card].models) == expected
    assert len(expected) == models


@pytest.mark.parametrize(
    ("card", "line"),
    [(card, line) for card in (FIRST, SECOND) for line in listed_in(card)],
    ids=lambda value: value if isinstance(value, str) else f"{value['provider']}/{value['model']}",
)
def test_every_line_of_a_card_is_that_of_the_price_list(cards, card, line):
    assert cards[card].models[line["provider"], line["model"]] == ModelPrice(
        tier=line["tier"],
        tier_mc=TIER_CREDITS[line["tier"]] * 1_000_000,
        prices={
            "input": micro_usd(line["input_usd_per_mtok"]),
            "cache_read": micro_usd(line["cached_input_usd_per_mtok"]),
            "output": micro_usd(line["output_usd_per_mtok"]),
        },
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_the_rest_of_a_card_is_that_of_the_help_article(cards, name):
    card = cards[name]
    assert card.usd_micros_per_credit == 5_000
    assert card.own_key_providers == set(PROVIDERS)
    assert card.scope_order == (ScopeType.TEAM, ScopeType.PERSONAL)
    assert card.own_key_node_call_mc == 1_000_000
    assert card.own_key_token_factor == Ratio(1, 2)
    assert card.tool_call_mc == 1_000_000
    assert card.workflow_run_mc == 1_000_000
    assert card.tool_mc == {}
    assert card.charge_subflows is False


@pytest.mark.parametrize("document", packaged_cards(), ids=lambda document: document.card)
def test_no_number_of_a_card_is_a_float(document):
    text = resources.files("services.key_registry.rate_cards").joinpath(f"{document.card}.json").read_text()

    def refuse(number):
        raise AssertionError(f"{number} is read as a float: put it in quotes")

    json.loads(text, parse_float=refuse)


def test_published_cards_never_change():
    folder = resources.files("services.key_registry.rate_cards")
    for name, digest in PUBLISHED.items():
        found = hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()
        assert found == digest, (
            f"{name} was edited. It is published: customers were charged by it, and receipts and `byok verify` still "
            "read it. Put it back, and publish other prices as a new card with a date of its own."
        )


def test_every_card_that_ships_is_among_the_published_ones():
    folder = resources.files("services.key_registry.rate_cards")
    found = {entry.name for entry in folder.iterdir() if entry.name.endswith(".json")}
    assert found == set(PUBLISHED), "a new card: add its digest to PUBLISHED, so that it never changes from now on"


# --- the exported schema ----------------------------------------------------------------------------------------------

SCHEMA = json.loads((ROOT / "schemas" / "json" / "rate-card.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())


def written_cards():
    """Every card that there is to copy: those that ship, the how-to's, and the example of a change of the log."""
    for document in packaged_cards():
        file = resources.files("services.key_registry.rate_cards").joinpath(f"{document.card}.json")
        yield pytest.param(json.loads(file.read_text()), id=document.card)
    how_to = (ROOT / "docs" / "how-to" / "rate-cards.md").read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"^```json\n(.+?)^```", how_to, re.MULTILINE | re.DOTALL), start=1):
        yield pytest.param(json.loads(block), id=f"how-to {number}")
    example = ROOT / "schemas" / "examples" / "byok.registry-changes" / "rate_card_published.json"
    change = json.loads(example.read_text(encoding="utf-8"))
    yield pytest.param({name: change[name] for name in ("card", "effective_from", "body")}, id="example")


@pytest.mark.parametrize("card", written_cards())
def test_the_schema_and_the_code_take_every_card_that_there_is_to_copy(card):
    Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(card)
    read_new_card(card)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("card",), ""),
        (("effective_from",), 2027),
        (("note",), "x"),
        (("body",), []),
        (("body", "schema"), 3),
        (("body", "note"), "x"),
        (("body", "usd_per_credit"), 0),
        (("body", "usd_per_credit"), "0.000"),
        (("body", "tiers", "standard"), "0.0000001"),
        (("body", "tiers", "standard"), 0.5),
        (("body", "own_key", "providers"), [1]),
        (("body", "own_key", "scope_order"), ["team"]),
        (("body", "own_key", "scope_order"), ["team", "team"]),
        (("body", "own_key", "token_factor"), "1.01"),
        (("body", "own_key", "token_faktor"), "0.5"),
        (("body", "tool_call", "tools", "web"), "1000001"),
        (("body", "workflow_run", "charge_subflows"), 0),
        (("body", "models", "openai", "gpt-5"), {"tier": "expert"}),
        (("body", "models", "openai", "gpt-5", "margin"), "1"),
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_code_refuses_too(path, value):
    document = packaged_cards()[-1]
    card = {"card": "new", "effective_from": "2027-01-01T00:00:00Z", "body": copy.deepcopy(document.body)}
    place: dict[str, Any] = card
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(card)
    with pytest.raises(InvalidRateCard) as refused:
        read_new_card(card)
    assert all(fault.field.startswith(".".join(path)) for fault in refused.value.faults)
