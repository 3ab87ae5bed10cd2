"""Rows that are sums over requests: refused where a sum cannot be priced, for one request may cost otherwise.

Bands go by the size of one request, windows by its time. Of a sum neither is known; where the model has none that could
matter, it costs what its parts cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from services.cli.usage.cells import as_text, cell, is_empty
from services.cli.usage.profile import Sums
from services.cli.usage.sources import Row
from services.cli.usage.times import TimeReader
from services.domain.directory import Directory
from services.domain.faults import Fault
from services.domain.model_prices import ModelPrice
from services.domain.usage import UsageEvent
from services.messages.usage_events import RejectedError

_DAY = timedelta(days=1)
_WHAT_TO_DO = "export shorter intervals, or take --type usage.token_usage.v1: sums at the card's plain prices"


class SumReason(StrEnum):
    """Why a sum is refused that an event of one request would not be."""

    UNPRICED_SUM = "unpriced_sum"


class SumCheck:
    """Looks at events that may be sums over requests, before they are sent."""

    def __init__(self, sums: Sums, directory: Directory, read_time: TimeReader) -> None:
        """``directory`` has the cards."""
        self._sums = sums
        self._directory = directory
        self._read_time = read_time

    def __call__(self, event: UsageEvent, row: Row) -> None:
        """Raise RejectedError where the price depends on what the sum does not say."""
        # Only what is counted by units is priced by bands and windows.
        price = self._price(event) if event.usage else None
        if price is None:
            return
        least = min(_bands(price), default=None)
        if least is not None and event.input_tokens > least and not self._is_one_request(row):
            raise _refused(
                "data.usage.input",
                f"is a sum over requests, and {event.model} costs otherwise in requests of more than {least:,} tokens",
            )
        if price.windows and len(set(_windows(price, event.occurred_at, self._until(event, row)))) > 1:
            raise _refused("time", f"is that of a sum, in whose time the price of {event.model} changes by the clock")

    def _price(self, event: UsageEvent) -> ModelPrice | None:
        """The model's line; None where there is none, which metering says better."""
        card = self._directory.card_at(event.occurred_at)
        if card is None or event.provider is None or event.model is None:
            return None
        listed = self._directory.listed_as(card, event.provider, event.model)
        return None if listed is None else card.models[event.provider, listed]

    def _is_one_request(self, row: Row) -> bool:
        said = "" if self._sums.requests is None else as_text(cell(row.values, self._sums.requests))
        return said in {"1", "1.0"}

    def _until(self, event: UsageEvent, row: Row) -> datetime:
        value = None if self._sums.until is None else cell(row.values, self._sums.until)
        at = None if is_empty(value) else self._read_time(value)
        return event.occurred_at + _DAY if at is None else at


def _refused(field: str, problem: str) -> RejectedError:
    return RejectedError(SumReason.UNPRICED_SUM, Fault(field, f"{problem}; {_WHAT_TO_DO}"))


def _bands(price: ModelPrice) -> Iterator[int]:
    for bands in (price.bands, *(variant.bands for variant in price.variants)):
        yield from (band.above_input_tokens for band in bands)


def _windows(price: ModelPrice, start: datetime, until: datetime) -> Iterator[int | None]:
    """The place of the window that holds, at the start and wherever another may begin."""
    minutes = {0, *(minute for window in price.windows for span in window.minutes for minute in span)}
    moments = [start]
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < until:
        moments += [at for minute in minutes if start < (at := day + timedelta(minutes=minute)) < until]
        day += _DAY
    for at in moments:
        yield next((index for index, window in enumerate(price.windows) if window.holds(at)), None)
