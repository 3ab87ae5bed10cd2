"""A rate card in a file: read, checked, and held against the card whose place it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from services.domain.rate_card import InvalidRateCard, in_order, require_amounts_fit
from services.key_registry.log.changes import rate_card_change
from services.key_registry.log.outbox import CHANGE_BYTES_MAX
from services.key_registry.rate_cards import CardDocument, read_card
from services.runtime.command_failed import CommandFailed


class Change(NamedTuple):
    """One place of a card's body that says something else; None where it is not there."""

    place: str
    before: Any
    after: Any


def read_document(file: Path) -> CardDocument:
    """The card in ``file``. Raises CommandFailed: 1 names what is wrong with it, 2 where there is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{file}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from None
    try:
        document = read_card(text)
    except KeyError as error:
        raise CommandFailed(f"{file}: {error.args[0]}: is missing", 1) from None
    except (TypeError, ValueError) as error:
        raise CommandFailed(f"{file}: is not a card: {error}", 1) from None
    return _checked(file, document)


def _checked(file: Path, document: CardDocument) -> CardDocument:
    if document.effective_from.tzinfo is None:
        raise CommandFailed(f"{file}: effective_from: must have an offset, such as 2027-01-01T00:00:00Z", 1)
    document = document._replace(effective_from=document.effective_from.astimezone(UTC))
    try:
        require_amounts_fit(document.parse())
        message = rate_card_change(1, document.effective_from, document)
    except InvalidRateCard as error:
        raise CommandFailed(f"{file}: body.{error}", 1) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise CommandFailed(f"{file}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}", 1) from None
    size = len(message.model_dump_json().encode())
    if size > CHANGE_BYTES_MAX:
        raise CommandFailed(f"{file}: is {size:,} bytes long as a message; at most {CHANGE_BYTES_MAX:,} are sent", 1)
    return document


def in_force_before(document: CardDocument, published: Iterable[CardDocument]) -> CardDocument | None:
    """The card whose place ``document`` takes at its date; None where it is the first.

    ``published`` are given in their order. Where ``document`` is none of them, it would be the last.
    """
    by_name = {card.card: card for card in published}
    cards = in_order((by_name | {document.card: document}).values())
    place = cards.index(document)
    return cards[place - 1] if place else None


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Every place in which two bodies differ, by name."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Change(place, old.get(place), new.get(place))
        for place in sorted(old.keys() | new.keys())
        if old.get(place) != new.get(place)
    ]


def _leaves(body: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(body, dict) and body:
        for name, value in body.items():
            yield from _leaves(value, f"{place}.{name}" if place else name)
    else:
        yield place, body
