"""Whether events have a price, as of the time of each: looked up with the functions that book."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from services.books.registry_log import directory_upto
from services.cli.usage.sources import Row
from services.domain.directory import Change, Directory
from services.domain.usage import UsageEvent
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from services.messages.usage_events import RejectedError
from services.metering.booking.pricing import Element, ReadRecord, Record, price_batch

_NOWHERE = Record(partition=0, offset=0, key=None, value=None, timestamp=0.0)


class PriceCheck:
    """Rates events, and books nothing."""

    def __init__(self, directory: Directory, known: str) -> None:
        """``known`` says in words whose prices they are."""
        self.directory = directory
        self.known = known

    @classmethod
    def with_ledger(cls, connection: Connection[Any]) -> PriceCheck:
        """With all that the ledger knows of cards, keys and plans now. Raises psycopg.Error."""
        with connection.transaction():
            return cls(directory_upto(connection), "what the ledger knows now")

    @classmethod
    def with_packaged_cards(cls) -> PriceCheck:
        """With the cards that ship with us."""
        directory = Directory()
        changes: list[Change] = [*(card.parse() for card in packaged_cards()), *packaged_aliases()]
        for seq, change in enumerate(changes, 1):
            directory.apply(seq, change)
        return cls(directory, "the rate cards that ship with us")

    def __call__(self, event: UsageEvent, row: Row) -> None:  # noqa: ARG002 - as all checks
        """Raises RejectedError where it would become a dead letter for want of a price."""
        element = Element(_NOWHERE, 0, event, b"", None)
        (priced,) = price_batch((), [ReadRecord(_NOWHERE, (element,))], self.directory).elements
        if priced.rejection is not None:
            raise RejectedError(priced.rejection.reason, *priced.rejection.faults)
