"""By which stable codes the ledger refuses (docs/contract.md, section 8), besides those of events."""

from __future__ import annotations

from enum import StrEnum

from services.runtime.refusals import Refusal


class Code(StrEnum):
    """What a use case can answer with that is about no event."""

    NOT_FOUND = "not_found"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    ORGANIZATION_FORBIDDEN = "organization_forbidden"
    QUOTE_FORBIDDEN = "quote_forbidden"
    ORGANIZATION_REQUIRED = "organization_required"
    INVALID_CURSOR = "invalid_cursor"
    INVALID_GROUP = "invalid_group"
    TOO_MANY_GROUPS = "too_many_groups"
    AHEAD_OF_LEDGER = "ahead_of_ledger"
    UNKNOWN_TIME_ZONE = "unknown_time_zone"
    BUSY = "busy"
    BROKER_UNAVAILABLE = "broker_unavailable"


def not_found() -> Refusal:
    """The one answer for what is not there and for what the caller may not see: they must not be told apart."""
    return Refusal(Code.NOT_FOUND, "There is no such entry, or this token may not see it.")
