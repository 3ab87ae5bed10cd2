"""`byok rate-card import` and `check --against` as they are typed: where what goes, and how they end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.key_registry.rate_cards import packaged_cards
from tests.typed import typed

NEWEST = packaged_cards()[-1]
PRICES = NEWEST.body["models"]["openai"]["gpt-5"]["usd"]
MODEL = {"litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 0.00001}
MAP = {
    "gpt-5": MODEL | {"input_cost_per_token": 2.5e-06, "output_cost_per_token": float(PRICES["output"]) / 1_000_000},
    "gpt-5-2025-08-07": MODEL | {"input_cost_per_token": 9e-06},
    "gpt-99": MODEL | {"input_cost_per_token": 1e-05, "output_cost_per_token": 3e-05},
}


@pytest.fixture
def byok(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps(MAP))

    def run(*arguments):
        return typed("rate-card", *arguments, folder=tmp_path)

    return run


def importing(*arguments):
    return ("import", "--from", "litellm", "map.json", *arguments)


def test_a_card_goes_to_standard_output_and_what_differs_to_standard_error(byok):
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    said = byok(*importing())
    card = json.loads(said.stdout)
    assert said.returncode == 0
    since = datetime.fromisoformat(card["effective_from"])
    assert since - midnight in (timedelta(days=1), timedelta(days=2))
    assert card["card"] == f"{since:%Y-%m-%d}"
    gpt_5 = card["body"]["models"]["openai"].pop("gpt-5")
    expected = json.loads(json.dumps(NEWEST.body))
    assert gpt_5 == expected["models"]["openai"].pop("gpt-5") | {"usd": PRICES | {"input": "2.5"}}
    assert card["body"] == expected
    lines = said.stderr.splitlines()
    assert lines[0] == "Listed by the card and litellm: 1 model; different: 1, in 1 places."
    assert lines[1:3] == ["openai: 1 of 1 models", f"  input (1) +100 %: gpt-5 {PRICES['input']} → 2.5"]
    assert lines[-2:] == [
        "In litellm alone: 1 model of these providers; --add takes one over.",
        "Nothing is published. `byok rate-card check CARD` looks over what was made of 2026-11-20.",
    ]


def test_a_card_in_a_file_can_be_published_and_differs_no_more_from_the_map(byok, tmp_path):
    options = ("--card", "next", "--effective-from", "2027-01-01", "--add", "gpt-99", "--all", "-o", "card.json")
    said = byok(*importing(*options))
    assert (said.returncode, said.stdout) == (0, "")
    assert "openai/gpt-99 is new, tier expert, a guess: " in said.stderr
    assert "anthropic/claude-haiku-4-5 is not in litellm" in said.stderr
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["card"], card["effective_from"]) == ("next", "2027-01-01T00:00:00Z")
    assert card["body"]["models"]["openai"]["gpt-99"] == {"tier": "expert", "usd": {"input": "10", "output": "30"}}
    checked = byok("check", "card.json", "--against", "litellm:map.json")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "Listed by the card and litellm: 2 models; different: 0, in 0 places." in checked.stdout
    assert checked.stdout.endswith("next can be published.\n")


def test_a_card_that_differs_from_the_map_is_told_by_the_exit_status(byok, tmp_path):
    card = {"card": "next", "effective_from": "2027-01-01T00:00:00Z", "body": NEWEST.body}
    (tmp_path / "card.json").write_text(json.dumps(card))
    said = byok("check", "card.json", "--against", "litellm:map.json")
    assert said.returncode == 1
    assert f"  input (1) +100 %: gpt-5 {PRICES['input']} → 2.5" in said.stdout.splitlines()
    as_json = byok("check", "card.json", "--against", "litellm:map.json", "--json")
    change = {"place": "models.openai.gpt-5.input", "before": PRICES["input"], "after": "2.5"}
    assert (as_json.returncode, json.loads(as_json.stdout)["map"]) == (1, [change])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("import", "--from", "litellm", "none.json"), 2, "none.json: No such file"),
        (("import", "--from", "genai-prices", "map.json"), 2, "map.json is no map of genai-prices"),
        (importing("--card", "2026-11-20"), 2, "a card 2026-11-20 is published, and never edited"),
        (importing("--effective-from", "soon"), 2, "--effective-from soon: must be a time such as"),
        (importing("--effective-from", "2020-01-01"), 2, "no card is in force at 2020-01-01"),
        (importing("--effective-from", "2026-10-01"), 2, "by schema 1"),
        (importing("--add", "gpt-99", "--tier", "golden"), 1, "'golden' is not one of the card's tiers"),
        (importing("-o", "no/such/folder"), 2, "no/such/folder: No such file"),
        (("check", "card.json", "--against", "map.json"), 2, "must be litellm:FILE or genai-prices:FILE"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(byok, tmp_path, arguments, status, said):
    card = {"card": "next", "effective_from": "2027-01-01T00:00:00Z", "body": NEWEST.body}
    (tmp_path / "card.json").write_text(json.dumps(card))
    found = byok(*arguments)
    assert (found.returncode, found.stdout) == (status, "")
    assert found.stderr.startswith(f"byok rate-card {arguments[0]}: ")
    assert said in found.stderr
