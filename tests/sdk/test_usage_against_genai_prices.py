"""Held against the extractors of a public price library, genai-prices, where its files are."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from byok_sdk.usage.extraction import usage_of

from tests.enabling import skip_unless
from tests.sdk.recorded_answers import ANSWERS, XAI_REASONING_WITHIN, Recorded

ROOT = Path(__file__).parents[2]

# Its names of our units.
UNITS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "reasoning": "output_reasoning_tokens",
}
PROVIDERS = {"xai": "x-ai"}
# It adds xAI's reasoning to the output whatever the total says, as some models of theirs report it.
DIFFERS = {"xai, reasoning within": {"output_tokens": 705}}


@pytest.fixture(scope="module")
def genai_prices() -> Iterator[ModuleType]:
    """Its data, without what it imports to fetch newer prices, which nothing here needs."""
    folder = Path(os.environ.get("BYOK_TEST_PRICE_MAPS", ROOT / "build" / "ci-tools" / "price-maps")) / "genai_prices"
    command = "BYOK_TEST_PRICE_MAPS=FOLDER, where the wheels that .ci/run names are unpacked"
    skip_unless((folder / "types.py").is_file(), "there is no genai_prices/types.py", command, needs="price-maps")
    package = ModuleType("genai_prices")
    package.__path__ = [str(folder)]
    sys.modules["genai_prices"] = package
    yield importlib.import_module("genai_prices.data")
    for name in [name for name in sys.modules if name.partition(".")[0] == "genai_prices"]:
        del sys.modules[name]


def _flavor(recorded: Recorded) -> str:
    if recorded.provider in ("anthropic", "google"):
        return "default"
    return "responses" if recorded.name == "openai responses" else "chat"


@pytest.mark.parametrize("recorded", ANSWERS, ids=lambda recorded: recorded.name)
def test_the_counts_are_those_of_genai_prices(recorded: Recorded, genai_prices: Any) -> None:
    name = PROVIDERS.get(recorded.provider, recorded.provider)
    provider: Any = next(each for each in genai_prices.providers if each.id == name)
    _, theirs = provider.extract_usage(recorded.answer, api_flavor=_flavor(recorded))
    ours = usage_of(recorded.answer, recorded.provider).units
    for unit, their_name in UNITS.items():
        expected = DIFFERS.get(recorded.name, {}).get(their_name, ours.get(unit, 0))
        assert (getattr(theirs, their_name, None) or 0) == expected, unit


def test_what_differs_is_what_the_total_decides() -> None:
    used = XAI_REASONING_WITHIN["usage"]
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
