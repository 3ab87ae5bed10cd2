"""Publishing rate cards, and what they say of providers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlmodel import Session, col, select

from services.key_registry.database.sessions import Sessions
from services.key_registry.database.tables import RateCardRow
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.log.changes import rate_card_change
from services.key_registry.log.outbox import LogWriter, log_time
from services.key_registry.rate_cards import CardDocument
from services.messages.rate_cards import publishable
from services.runtime.logs import logger

_log = logger(__name__)


class RateCardConflict(Exception):
    """A card of this name was published with another content. Prices change by a new card, never by editing one."""


class Providers(NamedTuple):
    """Who takes own keys, by the rate card in force."""

    rate_card: str
    providers: tuple[str, ...]
    verifiable: tuple[str, ...]
    """Those of them that can be asked whether they take a key."""


def published_cards(sessions: Sessions) -> list[CardDocument]:
    """All of them, in the order in which they were published."""
    with sessions.begin() as session:
        return [_document(row) for row in session.exec(select(RateCardRow).order_by(col(RateCardRow.seq)))]


def is_published(document: CardDocument, published: Iterable[CardDocument]) -> bool:
    """Whether this very card is among them. Raises RateCardConflict where its name stands for another content."""
    for known in published:
        if known.card == document.card:
            if known != document:
                raise RateCardConflict(
                    f"the rate card {document.card} is published with another content, and is never edited: publish"
                    " this one under another name"
                )
            return True
    return False


def publish_rate_card(sessions: Sessions, document: CardDocument) -> bool:
    """Publish a card; False where it is published already, whatever would be said of it today.

    Raises InvalidRateCard naming every place, also those that we do not know, and prices under which an event may come
    to more than the ledger holds; or RateCardConflict when the published card of that name says something else.
    """
    with sessions.begin() as session:
        # A published card stays as it is, so that what is there already needs no lock, and holds up no change.
        if _is_there(session, document):
            return False
        log = LogWriter(session, dates_itself=True)
        if _is_there(session, document):
            return False
        publishable(*document)
        seq = log.append(rate_card_change, document)
        session.add(RateCardRow(**document._asdict(), seq=seq))
    _log.info("rate card published", card=document.card, seq=seq)
    return True


def _is_there(session: Session, document: CardDocument) -> bool:
    known = session.get(RateCardRow, document.card, populate_existing=True)
    return is_published(document, [] if known is None else [_document(known)])


def _document(row: RateCardRow) -> CardDocument:
    return CardDocument(row.card, row.effective_from, row.body)


def list_providers(registry: Registry) -> Providers:
    """Who takes own keys now."""
    with registry.sessions.begin() as session:
        card = card_for(registry.cards.cards(session), log_time(session))
    own_key_providers = sorted(card.own_key_providers)
    asked = registry.checks.verifiable
    return Providers(card.card, tuple(own_key_providers), tuple(name for name in own_key_providers if name in asked))
