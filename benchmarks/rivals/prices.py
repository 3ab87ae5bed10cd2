"""The rate card for those who know no rate cards: what a call and each kind of token costs, in mc, as a file."""

from __future__ import annotations

import json
from pathlib import Path

from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, ModelPrice
from services.domain.rate_card import RateCard

_UNITS = {"input": INPUT, "cached": CACHE_READ, "output": OUTPUT}


def write_prices(card: RateCard, file: Path) -> None:
    """Write the lines that are priced in whole mc a token, as those of the workload are."""
    factor = card.own_key_token_factor
    models = {f"{provider}/{model}": _line(price, card) for (provider, model), price in card.models.items()}
    file.write_text(
        json.dumps(
            {
                "own_key_token_factor": [factor.numerator, factor.denominator],
                "own_key_call": card.own_key_node_call_mc,
                "models": {name: line for name, line in models.items() if line},
            }
        )
    )


def _line(price: ModelPrice, card: RateCard) -> dict[str, int]:
    # Pico-USD of a token by micro-USD of a credit: micro-credits of a token.
    tokens = {name: divmod(price.prices.get(unit, 0), card.usd_micros_per_credit) for name, unit in _UNITS.items()}
    if any(rest for _, rest in tokens.values()):
        return {}
    return {"call": price.tier_mc, **{name: mc for name, (mc, _) in tokens.items()}}
