"""Why an event has no price, as it is said of dead letters, at the door and for quotes alike."""

from __future__ import annotations

from schemas.dead_letters import Reason
from services.domain.faults import Fault
from services.domain.model_prices import (
    ImpossibleUsageError,
    UnpricedConditionError,
    UnpricedError,
    UnpricedUnitError,
)
from services.domain.rating import NoRateCardError
from services.messages.usage_events import Rejection


def why_unpriced(error: UnpricedError) -> Rejection:
    """The rejection of the event that could not be priced."""
    match error:
        case NoRateCardError():
            return Rejection.of(Reason.NO_RATE_CARD, str(error))
        case ImpossibleUsageError():
            return Rejection.of(Reason.INVALID_EVENT, Fault(f"data.usage.{error.unit}", str(error)))
        case UnpricedUnitError():
            return Rejection.of(Reason.UNPRICED_UNIT, Fault(f"data.usage.{error.unit}", str(error)))
        case UnpricedConditionError():
            return Rejection.of(Reason.UNPRICED_CONDITION, Fault(f"data.conditions.{error.condition}", str(error)))
        case _:
            return Rejection.of(Reason.UNPRICED_MODEL, str(error))
