"""A rate card in a file: read, checked, and found its place among the cards that are published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from services.domain.faults import Fault
from services.domain.rate_card import InvalidRateCard, in_order
from services.key_registry.log.changes import rate_card_change
from services.key_registry.log.outbox import CHANGE_BYTES_MAX
from services.key_registry.rate_cards import CardDocument, read_card
from services.messages.rate_cards import publishable
from services.runtime.command_failed import CommandFailed

_FAULTS_SHOWN = 20
"""A screenful, with what stands around them."""


def read_document(file: Path) -> CardDocument:
    """The card in ``file``, which may be published. Raises CommandFailed: 1 names all that is wrong, 2: no file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{file}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from None
    return read_text(text, file)


def read_text(text: str, file: Path | str) -> CardDocument:
    """The card in ``text``, which may be published. Raises CommandFailed that says of ``file`` all that is wrong."""
    try:
        document = read_card(text)
    except json.JSONDecodeError as error:
        raise CommandFailed(f"{file}: is not JSON: {error}", 1) from None
    except InvalidRateCard as error:
        raise _refused(file, error.faults) from None
    try:
        publishable(*document)
    except InvalidRateCard as error:
        raise _refused(file, [fault._replace(field=f"body.{fault.field}") for fault in error.faults]) from None
    size = len(rate_card_change(1, document.effective_from, document).model_dump_json().encode())
    if size > CHANGE_BYTES_MAX:
        raise CommandFailed(f"{file}: is {size:,} bytes long as a message; at most {CHANGE_BYTES_MAX:,} are sent", 1)
    return document


def _refused(file: Path | str, faults: Sequence[Fault]) -> CommandFailed:
    if len(faults) == 1:
        return CommandFailed(f"{file}: {faults[0]}", 1)
    more = len(faults) - _FAULTS_SHOWN
    lines = [f"{file} cannot be published, for {len(faults):,} reasons:", *map(str, faults[:_FAULTS_SHOWN])]
    return CommandFailed("\n  ".join([*lines, *([f"and {more:,} more"] if more > 0 else [])]), 1)


def in_force_before(document: CardDocument, published: Iterable[CardDocument]) -> CardDocument | None:
    """The card whose place ``document`` takes at its date; None where it is the first.

    ``published`` are given in their order. Where ``document`` is none of them, it would be the last.
    """
    by_name = {card.card: card for card in published}
    cards = in_order((by_name | {document.card: document}).values())
    place = cards.index(document)
    return cards[place - 1] if place else None
