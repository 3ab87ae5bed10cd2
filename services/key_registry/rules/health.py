"""How a key fares at its provider, as runners report it: which report is news, and which is about another key. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from services.domain.masking import mask_text

AHEAD_MAX = timedelta(minutes=5)
"""How far a runner's clock may be ahead, as of events."""
AGE_MAX = timedelta(days=1)
"""How old a report may be: later than that it tells nothing of a key that is used today."""
SAID_AGAIN_AFTER = timedelta(minutes=1)
"""How exactly it is known until when a key fared as before: a write for each call would cost more than it tells. So of
reports that overtake each other within this time, an older one that says something else may be shown."""


class Outcome(StrEnum):
    """What the provider made of a key."""

    REJECTED = "rejected"
    """It does not take it."""
    EXHAUSTED = "exhausted"
    """It takes it, and its quota or credit is used up."""
    ACCEPTED = "accepted"


class Health(NamedTuple):
    """How a key fared, when that was, and what was said of it."""

    outcome: Outcome
    at: datetime
    detail: str | None = None


class Report(NamedTuple):
    """What a runner says. ``leased_at`` is the ``at`` of its lease, None where it does not say."""

    outcome: Outcome
    at: datetime
    detail: str | None = None
    leased_at: datetime | None = None

    def is_of(self, since: datetime) -> bool:
        """Whether it is about the key that is in use ``since``, and not about the one before it.

        A runner may use the one before until its lease ends. When it leased is exact, for that is the registry's clock.
        """
        return (self.leased_at or self.at) >= since

    def health(self, now: datetime) -> Health:
        """What is kept of it: no time ahead of ours, before which all other reports would be old; and no key."""
        return Health(self.outcome, min(self.at, now), None if self.detail is None else mask_text(self.detail))


def is_news(health: Health, kept: Health | None) -> bool:
    """Whether ``health`` takes the place of what is kept: it is newer, and says something else or is much newer."""
    if kept is None:
        return True
    return health.at > kept.at and (health.outcome != kept.outcome or health.at - kept.at >= SAID_AGAIN_AFTER)
