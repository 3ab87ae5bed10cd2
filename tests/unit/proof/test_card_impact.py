"""What a card would move is counted from the entries that are booked, worked out by hand."""

from __future__ import annotations

from services.books.entry_rows import attribution_columns
from services.domain.entries import attribution
from services.domain.rating import rate
from services.proof.card_impact import Impact, rerated
from tests.factories import NOON, card, card_body, credential, directory, model_line, node_call, plan, token_usage

KNOWN = (plan(), credential())
EVENTS = (node_call(id="a", calls=2), token_usage(id="b", model="large", input_tokens=1_000, output_tokens=0))


def booked(event):
    what = attribution(rate(event, directory(*KNOWN)))
    said = event._asdict() | attribution_columns(what)
    return said | {
        "event_source": event.source,
        "event_id": event.id,
        "event_type": event.type.value,
        "quantity": event.quantity,
        "claim_source": None,
        "claim_credential_id": None,
        "usage": None,
        "evidence": None,
    }


def impact_of(*events, **changes):
    cards = (card(), card("card-2", NOON.replace(hour=0), **changes))
    return rerated(map(booked, events), directory(*KNOWN, cards=cards))


def test_a_card_that_says_the_same_only_changes_its_name():
    assert impact_of(*EVENTS) == Impact(entries=2, corrected=2)


def test_another_price_moves_list_and_charged():
    models = card_body()["models"]
    models["openai"]["large"] = model_line("expert", "30", "7.5", "60")
    # 1,000 tokens at 30 instead of 15 USD per million: 0.015 USD more, which is 3 credits; half of it with an own key.
    expected = Impact(entries=2, corrected=2, moved=1, organizations=1, list_mc=3_000_000, charged_mc=1_500_000)
    assert impact_of(*EVENTS, models=models) == expected


def test_a_cheaper_tier_gives_back():
    # Two calls of tier standard list at 1 instead of 2 credits; with an own key they cost 1 each either way.
    tiers = {"standard": 1, "advanced": 20, "expert": 30}
    assert impact_of(EVENTS[0], tiers=tiers) == Impact(1, 1, 1, 0, 1, -2_000_000, 0)


def test_a_model_that_the_card_does_not_list_stands():
    assert impact_of(*EVENTS, models={"openai": {"small": card_body()["models"]["openai"]["small"]}}) == Impact(
        entries=2, corrected=1, unpriced=1
    )
