"""What POST /v1/usage-events refuses before anybody has it: what is certain to be refused, and what is one too many.

An event whose model no card lists would become a dead letter; refused at the door it is still its sender's, who is told
at once. Only what is certain is refused: where the newest prices may not be known here, the worker decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from schemas.dead_letters import Reason
from services.domain.directory import Directory
from services.domain.faults import Fault, did_you_mean
from services.domain.model_prices import UnpricedError
from services.domain.rating import AmountTooLargeError, NoRateCardError, UnpricedModelError, rate
from services.domain.usage import UsageEvent
from services.ledger.usage_batch import UsageRequest
from services.messages.unpriced import why_unpriced
from services.messages.usage_events import Accepted, Rejected, Rejection
from services.runtime.refusals import Refusal


class DoorReason(StrEnum):
    """Why an event is refused here that metering would take."""

    DEAD_LETTER_QUOTA = "dead_letter_quota"


def unpriced(accepted: Iterable[Accepted], prices: Directory) -> list[Rejected]:
    """The events that have no price by what ``prices`` knows, which must be all there is: as metering would say."""
    found = ((each.source_index, _without_price(each.event, prices)) for each in accepted)
    return [Rejected(index, rejection) for index, rejection in found if rejection is not None]


def _without_price(event: UsageEvent, prices: Directory) -> Rejection | None:
    try:
        rate(event, prices)
    except NoRateCardError:
        return Rejection.of(Reason.NO_RATE_CARD, Fault("time", "no rate card is in force at this time"))
    except UnpricedModelError as error:
        detail = "is not on the rate card in force at the event's time; keep the event, and send it again once it is"
        return Rejection.of(Reason.UNPRICED_MODEL, Fault("data.model", detail + did_you_mean(error.near)))
    except AmountTooLargeError:
        # Metering says it.
        return None
    except UnpricedError as error:
        return why_unpriced(error)
    return None


class KnownCards(NamedTuple):
    """What the log says of prices up to one of its changes."""

    directory: Directory
    """Every rate card, and nothing of keys and plans."""
    seq: int
    """The newest change that was read, of whatever kind."""
    at: float
    """When that was all, by a clock that never goes back, in seconds."""


class Cards(Protocol):
    """Who knows the rate cards."""

    def known(self) -> KnownCards | None:
        """All there are; None while that is not certain."""


class Quota(Protocol):
    """Who knows of whom nothing is taken for now."""

    def waits(self, org_ids: Collection[str]) -> Mapping[str, float]:
        """Those of the organizations, and for how many seconds."""


class Door:
    """Lets in what may go on to the broker."""

    def __init__(
        self,
        cards: Cards,
        recorded_seq: Callable[[], int | None],
        quota: Quota,
        *,
        on_rejected: Callable[[StrEnum], None] = lambda _reason: None,
    ) -> None:
        """``recorded_seq`` is the newest registry change that the ledger has; None where it does not say.

        ``on_rejected`` hears of every event that is rejected here, and why.
        """
        self._cards = cards
        self._recorded_seq = recorded_seq
        self._quota = quota
        self._on_rejected = on_rejected

    def admit(self, request: UsageRequest, *, unlimited: bool) -> UsageRequest:
        """The request without what is refused. Raises 422 or 429 where nothing is left; ``unlimited``: no quota."""
        request = self._without_unpriced(request)
        waits = {} if unlimited else self._quota.waits(request.organizations)
        return self._without_waiting(request, waits) if waits else request

    def _without_unpriced(self, request: UsageRequest) -> UsageRequest:
        known = self._cards.known()
        rejected = [] if known is None else unpriced(request.accepted, known.directory)
        if known is None or not rejected or not self._is_newest(known):
            return request
        return self._without(request, rejected)

    def _without_waiting(self, request: UsageRequest, waits: Mapping[str, float]) -> UsageRequest:
        seconds = math.ceil(max(waits.values()))
        detail = f"too many events of this organization were refused within the hour; send it again in {seconds} s"
        rejection = Rejection.of(DoorReason.DEAD_LETTER_QUOTA, Fault("data.org_id", detail))
        rejected = [Rejected(each.source_index, rejection) for each in request.accepted if each.event.org_id in waits]
        try:
            return self._without(request, rejected)
        except Refusal:
            # Nothing is left, but some of it may be good and only comes too early.
            raise _too_many(seconds) from None

    def _without(self, request: UsageRequest, rejected: Iterable[Rejected]) -> UsageRequest:
        for each in rejected:
            self._on_rejected(each.rejection.reason)
        return request.without(rejected)

    def _is_newest(self, known: KnownCards) -> bool:
        # A topic that was lost, and is being sent again, says less than the ledger; and metering may have been faster.
        recorded = self._recorded_seq()
        return recorded is not None and known.seq >= recorded


def _too_many(seconds: int) -> Refusal:
    detail = (
        "Too many events of this organization were refused within the hour: mend what sends them. Nothing of this "
        f"request was taken; send it again in {seconds} s."
    )
    return Refusal(DoorReason.DEAD_LETTER_QUOTA, detail, retry_seconds=seconds)
