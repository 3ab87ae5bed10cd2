"""The newest packaged card beside the public maps: what differs is known and explained, and the rest is the same.

Of each map .ci/run fixes the version; who moves it looks at what its news would change.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from services.cli.rate_card.document import read_text
from services.cli.rate_card.importing import written
from services.cli.rate_card.price_maps import genai_prices, litellm
from services.cli.rate_card.proposal import Wanted, propose
from services.cli.rate_card.survey import screen
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from tests.enabling import skip_unless

ROOT = Path(__file__).resolve().parents[2]
CARD = packaged_cards()[-1]
ALIASES = {each.provider: each.aliases for each in packaged_aliases()}
EXPLAINED = json.loads((Path(__file__).parent / "data" / "public-price-differences.json").read_text(encoding="utf-8"))
AT = datetime(2026, 11, 30, tzinfo=UTC)
MAPS = ["litellm", "genai-prices"]


def map_file(name: str) -> Path:
    file = Path(os.environ.get("BYOK_TEST_PRICE_MAPS", ROOT / "build" / "ci-tools" / "price-maps")) / name
    command = "BYOK_TEST_PRICE_MAPS=FOLDER, where the wheels that .ci/run names are unpacked"
    skip_unless(file.is_file(), f"there is no {name}", command, needs="price-maps")
    return file


def litellm_map() -> bytes:
    return map_file("litellm/model_prices_and_context_window_backup.json").read_bytes()


def genai_prices_map() -> bytes:
    """What its repository has as data.json: its wheel has the same as calls, which are read here and not run."""
    module = ast.parse(map_file("genai_prices/data.py").read_text(encoding="utf-8"))
    (providers,) = (each.value for each in module.body if isinstance(each, ast.AnnAssign))
    return json.dumps(plain(providers)).encode()


def plain(node: ast.AST) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [plain(each) for each in node.elts]
        case ast.Dict():
            return {plain(name): plain(value) for name, value in zip(node.keys, node.values, strict=True)}
        case ast.Call(func=ast.Name("Decimal"), args=[ast.Constant(str(text))]):
            return float(text)
        case ast.Call(func=ast.Attribute(attr="date"), args=numbers):
            return date(*map(plain, numbers)).isoformat()
        case ast.Call(func=ast.Attribute(attr="time"), args=numbers, keywords=zone):
            assert [ast.unparse(each) for each in zone] == ["tzinfo=datetime.UTC"]
            return f"{time(*map(plain, numbers)).isoformat()}Z"
        case ast.Call(keywords=fields):
            return {str(field.arg).rstrip("_"): plain(field.value) for field in fields}
    raise AssertionError(ast.unparse(node))


@pytest.fixture(scope="module", params=MAPS)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def entries(source):
    return litellm.read(litellm_map()) if source == "litellm" else genai_prices.read(genai_prices_map(), AT)


@pytest.fixture(scope="module")
def proposal(entries):
    return propose(CARD.body, entries, ALIASES, Wanted())


def explained(source: str) -> Iterator[tuple[str, str]]:
    for each in EXPLAINED[source]:
        assert each["why"]
        yield from ((model, place) for model in each["models"] for place in each["places"])


def test_a_price_that_differs_from_the_map_is_explained_and_every_explanation_is_needed(source, proposal):
    differing = {("/".join(change.path[1:3]), change.path[3]) for change in proposal.changes}
    assert differing == set(explained(source))


def test_nearly_every_model_is_found_in_the_map(source, proposal):
    listed = sum(map(len, CARD.body["models"].values()))
    assert ["/".join(model) for model in proposal.missing] == EXPLAINED["missing"][source]
    assert sum(proposal.compared.values()) == listed - len(proposal.missing)


def test_what_is_left_out_of_a_model_that_is_found_leaves_it_its_other_prices(proposal):
    assert {left.what for _, left in proposal.left_out}.isdisjoint({"the model", "off_peak_pricing", "tiered_pricing"})


def document(body):
    return written({"card": "proposed", "effective_from": "2026-11-30T00:00:00Z", "body": body})


def test_the_card_that_comes_of_it_can_be_published_and_differs_no_more(entries, proposal):
    read = read_text(document(proposal.body), "proposed")
    again = propose(read.body, entries, ALIASES, Wanted())
    assert (again.changes, again.body) == ([], read.body)


def test_a_card_with_every_model_of_these_providers_can_be_published_too(entries):
    found = propose(CARD.body, entries, ALIASES, Wanted(add_all=True))
    assert len(found.added) > 100
    assert found.unlisted == []
    read_text(document(found.body), "proposed").parse()


def test_what_differs_is_told_on_a_screen(source, proposal):
    lines = screen(proposal, source)
    assert len(lines) <= 34
    assert max(map(len, lines)) <= 100
