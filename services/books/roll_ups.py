"""The roll-ups of the ledger as they are read: which sums each view holds, by what, and how finely in time.

``ledger.place_entries`` alone adds to them, in the transaction that gives entries their places: so they are the sums of
all entries that have one, at any moment.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from services.books.columns import SUMMED

_USE = (
    *("org_id", "event_type", "provider", "model", "priced_model", "tier", "key_source", "byok_scope", "reason"),
    *("kind", "rate_card"),
)
_USER = ("org_id", "user_id", "team_id")

Period = Literal["hour", "day", "month"]


class RollUp(NamedTuple):
    """One view of sums: ``events`` and ``SUMMED`` of each combination of ``columns``, in each period."""

    view: str
    columns: tuple[str, ...]
    """By what; named, and meaning the same, as in ``ledger.entries``."""
    period: Period
    """The column with its beginning, in UTC: ``hour`` a time; ``day`` and ``month`` a date."""


FINEST = RollUp("hourly_user_sums", (*_USE, "user_id", "team_id"), "hour")
"""From which all others could be made."""
ROLL_UPS = (
    RollUp("monthly_user_sums", _USER, "month"),
    RollUp("daily_sums", _USE, "day"),
    RollUp("daily_user_sums", _USER, "day"),
    RollUp("hourly_sums", _USE, "hour"),
    FINEST,
)
"""The cheapest to read first."""
SUMS = ("events", *SUMMED)
"""What each holds. ``events`` counts identities: a reversal takes one away."""
