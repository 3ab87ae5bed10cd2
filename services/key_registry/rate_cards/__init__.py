"""The rate cards that ship with us, as dated data. A published card is never edited: prices change by a new card."""

from __future__ import annotations

import json
from datetime import datetime
from importlib import resources
from operator import attrgetter
from typing import Any, NamedTuple

from services.domain.rate_card import RateCard, in_order
from services.messages.rate_cards import read_new_card, read_rate_card


class CardDocument(NamedTuple):
    """A rate card as it is written in a file and published: name, UTC start, and the body as it is written."""

    card: str
    effective_from: datetime
    body: dict[str, Any]

    def parse(self) -> RateCard:
        """The card, as whoever reads it from the log does. Raises InvalidRateCard naming every place that is wrong."""
        return read_rate_card(*self)


def read_card(text: str) -> CardDocument:
    """The card in ``text`` (JSON). Raises ValueError where that is no JSON, and InvalidRateCard where it is no card."""
    written = json.loads(text)
    document = read_new_card(written)
    return CardDocument(document.card, document.effective_from, written["body"])


def packaged_cards() -> tuple[CardDocument, ...]:
    """The cards that ship with us, the earliest first."""
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".json"))
    return in_order(sorted((read_card(file.read_text()) for file in files), key=attrgetter("card")))
