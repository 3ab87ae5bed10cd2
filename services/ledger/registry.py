"""The registry log as the ledger recorded it, folded: for quotes as of now, for receipts as of an entry's position."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from schemas.registry_changes import CredentialChange, RateCardChange, RegistryChange
from services.books.registry_log import FoldedLog, fold
from services.domain.directory import Credential, Directory
from services.domain.rate_card import RateCard
from services.ledger.repository import EntryRepository


class UnknownCardError(Exception):
    """An entry names a rate card that the registry log does not have: the log was lost."""


class Known(NamedTuple):
    """What may decide about one organization and provider: the directory, and whose keys to look at."""

    directory: Directory
    credentials: tuple[Credential, ...]
    """Every credential of the organization for the provider, whatever its state."""
    hints: dict[str, str]
    """Of each of them what may be shown of the key."""
    claimed: Credential | None = None
    """The key that an event names, as it is known now, whenever it was added."""


class RegistryView:
    """A directory in memory that goes on where it stopped: each look reads only what came into the log since."""

    def __init__(self, repository: EntryRepository) -> None:
        """Nothing is read before the first question."""
        self._repository = repository
        self._lock = threading.Lock()
        self._log = FoldedLog()
        self._ids: dict[tuple[str, str], dict[str, str]] = {}
        self._cards: set[str] = set()

    @contextmanager
    def current(self, org_id: str, provider: str) -> Iterator[Known]:
        """The newest directory. It must not be used after the block: others advance it.

        Raises UnreadableChangeError for a change that cannot be read: without it every answer could be wrong.
        """
        with self._lock:
            self._advance()
            hints = self._ids.get((org_id, provider), {})
            yield Known(self._log.directory, _credentials(self._log.directory, hints), hints)

    def as_of(self, seq: int, org_id: str, provider: str | None, claimed: str | None) -> Known:
        """A directory of what the log said up to ``seq``, as far as it concerns one organization and provider."""
        with self._lock:
            self._advance()
            hints = dict(self._ids.get((org_id, provider or ""), {}))
            cards = sorted(self._cards)
            named = None if claimed is None else self._log.directory.credential(claimed)
        keys = [
            f"plan:{org_id}",
            f"model_aliases:{provider}",
            *(f"rate_card:{card}" for card in cards),
            *(f"credential:{own}" for own in hints),
        ]
        if claimed is not None and claimed not in hints:
            keys.append(f"credential:{claimed}")
        directory = fold(self._repository.changes_as_of(keys, seq))
        return Known(directory, _credentials(directory, hints), hints, named)

    def card_named(self, name: str) -> RateCard:
        """The rate card of that name. Raises UnknownCardError: what an entry was priced by is in the log before it."""
        with self._lock:
            card = self._card(name)
            if card is None:
                self._advance()
                card = self._card(name)
        if card is None:
            raise UnknownCardError(f"the registry log of this ledger has no rate card {name}")
        return card

    def _card(self, name: str) -> RateCard | None:
        return next((card for card in self._log.directory.cards if card.card == name), None)

    def _advance(self) -> None:
        for change in self._repository.changes_after(self._log.arrival):
            self._remember(self._log.take_in(change))

    def _remember(self, message: RegistryChange | None) -> None:
        if isinstance(message, CredentialChange):
            self._ids.setdefault((message.org_id, message.provider), {})[message.credential_id] = message.hint
        elif isinstance(message, RateCardChange):
            self._cards.add(message.card)


def _credentials(directory: Directory, ids: dict[str, str]) -> tuple[Credential, ...]:
    found = (directory.credential(credential_id) for credential_id in ids)
    return tuple(credential for credential in found if credential is not None)
