"""What runners ask about keys, and what they are answered."""

from __future__ import annotations

from contextvars import Context
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import SecretStr

from services.domain.permissions import Caller
from services.domain.resolution import Resolution, Use
from services.domain.scope import Plan


class Asked(NamedTuple):
    """Who asks which key applies to a use; ``now``: at this moment, whatever the use says."""

    caller: Caller
    use: Use
    now: bool
    context: Context
    """In which trace; what is logged on the way names it."""


class Answer(NamedTuple):
    """Which key applies to a use, and why; the plan is the organization's at that time."""

    use: Use
    plan: Plan
    resolution: Resolution


class Lease(NamedTuple):
    """An answer for now with the secret of the key, to be used until ``expires_at``; None for the platform's."""

    answer: Answer
    expires_at: datetime
    ttl: timedelta
    secret: SecretStr | None
