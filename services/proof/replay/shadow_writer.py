"""Writes to the shadow ledger without metering's patience, for the real ledger's snapshot is open meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from services.metering.booking.ledger_writer import Booked, LedgerWriter, Position
from services.metering.booking.pricing import PricedBatch
from services.metering.booking.staging import Staged
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.database import is_outage


class ShadowWriter(LedgerWriter):
    """Raises CommandFailed for every outage, which metering would wait out."""

    def positions(self, partitions: Iterable[int]) -> dict[int, Position]:
        """As of any ledger."""
        with _outages_refused():
            return super().positions(partitions)

    def begin(self, origins: Mapping[int, int]) -> None:
        """As of any ledger."""
        with _outages_refused():
            super().begin(origins)

    def book(self, batch: PricedBatch, staged: Staged | None = None) -> Booked:
        """As of any ledger."""
        with _outages_refused():
            return super().book(batch, staged)

    def refuses(self, batch: PricedBatch) -> psycopg.Error | None:
        """As of any ledger."""
        with _outages_refused():
            return super().refuses(batch)


@contextmanager
def _outages_refused() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, OSError) as error:
        if isinstance(error, psycopg.Error) and not is_outage(error):
            raise
        said = str(error).partition("\n")[0]
        raise CommandFailed(
            f"the shadow's database is away or full: {said}; look at it, and begin again", AWAY
        ) from None
