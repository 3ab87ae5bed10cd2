"""A band of a map holds for the very requests for which the map's own calculator would take its price."""

from __future__ import annotations

import json

import pytest

from services.cli.rate_card.price_maps import genai_prices, litellm
from services.cli.rate_card.proposal import Wanted, propose
from services.domain.model_prices import bill
from services.messages.rate_cards import read_rate_card
from tests.factories import START, card_body_2

LITELLM = {
    "input_cost_per_token": 1e-06,
    "output_cost_per_token": 2e-06,
    "input_cost_per_token_above_200k_tokens": 3e-06,
}
TIERS = {"base": 1, "tiers": [{"start": 200_000, "price": 3}]}
GENAI_PRICES = {"input_mtok": TIERS, "output_mtok": 2}


def of_litellm(provider):
    return litellm.read(json.dumps({"a-model": LITELLM | {"litellm_provider": provider}}).encode())


def of_genai_prices(provider):
    models = [{"id": "a-model", "prices": GENAI_PRICES}]
    return genai_prices.read(json.dumps([{"id": provider, "models": models}]).encode(), START)


@pytest.mark.parametrize(
    ("entries", "last_of_the_lower"),
    [
        (of_litellm("openai"), 200_000),
        # Its price list says "from 200k on", and LiteLLM's calculator has it so.
        (of_litellm("xai"), 199_999),
        (of_genai_prices("openai"), 200_000),
    ],
)
def test_the_edge_of_a_band_is_where_the_map_has_it(entries, last_of_the_lower):
    provider = entries[0].provider
    body = card_body_2(models={provider: {"a-model": {"tier": "standard", "usd": {"input": "9"}}}})
    found = propose(body, entries, {}, Wanted())
    card = read_rate_card("imported", START, found.body)
    for tokens, micros in ((1, 1), (last_of_the_lower, 1), (last_of_the_lower + 1, 3)):
        cost = bill((("input", tokens),), (), START, card.models[provider, "a-model"], card.units).cost
        assert (cost.numerator, cost.denominator) == (tokens * micros * 1_000_000, 1)
