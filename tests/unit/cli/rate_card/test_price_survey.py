"""What a map would change, grouped on a screen; and every place of it where that is asked for."""

from __future__ import annotations

from services.cli.rate_card.differences import Change
from services.cli.rate_card.price_maps.lines import LeftOut
from services.cli.rate_card.proposal import Added, Proposal
from services.cli.rate_card.survey import everything, screen


def change(model, place, before, after, provider="openai"):
    return Change(("models", provider, model, place), before, after)


def proposal(*changes, **besides):
    of_each = {change.group: 9 for change in changes}
    empty = Proposal({}, of_each, list(changes), {}, [], [], [], [])
    return empty._replace(**besides)


def test_kinds_of_change_are_told_by_provider_the_prices_of_most_weight_first():
    said = screen(
        proposal(
            change("a", "cache_read", "1", "2"),
            change("a", "input", "10", "8"),
            change("b", "input", "2", "2.1"),
            change("c", "batch input", "4", "5"),
            change("a", "cache_write_5m", None, "3"),
            change("b", "cache_write_5m", None, "3"),
            change("b", "flex input above 200,000", None, "3"),
            change("b", "factor for region us", "1.1", None),
            change("d", "windows", "a", "b", provider="deepseek"),
        ),
        "litellm",
    )
    assert said == [
        "Listed by the card and litellm: 18 models; different: 4, in 9 places.",
        "deepseek: 1 of 9 models",
        "  windows (1): d a → b",
        "openai: 3 of 9 models",
        "  input (2) -20 % to +5 %: a 10 → 8, b 2 → 2.1",
        "  batch prices (1) +25 %: c batch input 4 → 5",
        "  cache_read (1) +100 %: a 1 → 2",
        "  gone: factor for region us (1): b",
        "  gained: cache_write_5m (2): a, b",
        "  gained: flex prices above 200,000 (1): b",
    ]


def test_what_stays_is_left_out_or_is_new_is_said():
    found = proposal(
        change("a", "input", "10", "8"),
        added={("openai", "n"): Added("expert", ("openai", "a")), ("openai", "m"): Added("standard", None)},
        kept=[(("openai", "a"), "batch input"), (("openai", "a"), "batch output"), (("openai", "b"), "web_search")],
        left_out=[(("openai", "b"), LeftOut("videos", "no card has a unit for it"))],
        missing=[("openai", "c")],
        unlisted=[("openai", "x"), ("openai", "y")],
    )
    assert screen(found, "litellm") == [
        "Listed by the card and litellm: 9 models; different: 1, in 1 places; new: 2.",
        "openai: 1 of 9 models, 2 new",
        "  input (1) -20 %: a 10 → 8",
        "  new: n, tier expert, a guess: openai/a costs about as much",
        "  new: m, tier standard",
        "Look at what stays beside prices that change: 1 model: a",
        "Stays, as litellm does not state it: batch prices (2), web_search (1)",
        "Left out (--all says why): videos (1)",
        "Stay, as they are not in litellm: 1 model: c",
        "In litellm alone: 2 models of these providers; --add takes one over.",
    ]
    assert everything(found, "litellm")[1:] == [
        "  openai/a input 10 → 8 (-20 %)",
        "  openai/n is new, tier expert, a guess: openai/a costs about as much",
        "  openai/m is new, tier standard",
        "  openai/a batch input stays: litellm does not state it",
        "  openai/a batch output stays: litellm does not state it",
        "  openai/b web_search stays: litellm does not state it",
        "  openai/b videos is left out: no card has a unit for it",
        "  openai/c is not in litellm",
        "  openai/x is in litellm alone",
        "  openai/y is in litellm alone",
    ]


def test_gained_and_gone_are_told_one_by_one():
    found = proposal(change("a", "input", None, "8"), change("a", "output", "3", None))
    assert everything(found, "litellm")[1:] == ["  openai/a input gained: 8", "  openai/a output 3 is gone"]


def test_very_many_changes_fit_on_a_screen():
    many = [
        change(f"a-model-of-a-long-name-{number}", f"unit-{number}", "1", "2", provider=f"provider-{number % of}")
        for of in (3, 40)
        for number in range(400)
    ]
    for changes in (many[:400], many):
        lines = screen(proposal(*changes), "genai-prices")
        assert len(lines) <= 34
        assert max(map(len, lines)) <= 100
    assert "  and 125 kinds of change more" in screen(proposal(*many[:400]), "genai-prices")
    assert screen(proposal(*many), "genai-prices")[-1] == "and 8 providers"
