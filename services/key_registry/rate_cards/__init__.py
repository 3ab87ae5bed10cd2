"""The rate cards that ship with us, as dated data. A published card is never edited: prices change by a new card."""

from __future__ import annotations

import json
from datetime import datetime
from importlib import resources
from operator import attrgetter
from typing import Any, NamedTuple

from services.domain.rate_card import RateCard, in_order, parse_rate_card


class CardDocument(NamedTuple):
    """A rate card as it is written in a file and published: name, UTC start, and the body that domain reads."""

    card: str
    effective_from: datetime
    body: dict[str, Any]

    def parse(self) -> RateCard:
        """The card. Raises InvalidRateCard naming the first place in its body that is wrong."""
        return parse_rate_card(self.card, self.effective_from, self.body)


def read_card(text: str) -> CardDocument:
    """The card document in ``text`` (JSON). Raises KeyError, TypeError or ValueError where it is none."""
    document = json.loads(text)
    return CardDocument(document["card"], datetime.fromisoformat(document["effective_from"]), document["body"])


def packaged_cards() -> tuple[CardDocument, ...]:
    """The cards that ship with us, the earliest first."""
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".json"))
    return in_order(sorted((read_card(file.read_text()) for file in files), key=attrgetter("card")))
