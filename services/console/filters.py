"""The filters of a page, which its URL has: which days, and which entries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

_DAYS_SHOWN = 30
_DAILY_MAX = timedelta(days=92)
TEXTS: Mapping[str, str] = {
    "provider": "Provider",
    "model": "Model",
    "user_id": "User",
    "team_id": "Team",
    "event_type": "Event type",
}
"""What entries can be filtered by, with its label."""


class UnusableFormError(ValueError):
    """A field of the form cannot be used; the message says which."""


class Asked(NamedTuple):
    """What the URL asks for; dates are UTC days, both included; None is open."""

    first: date | None
    last: date | None
    texts: Mapping[str, str]
    everything: bool
    today: date

    def query(self) -> dict[str, str]:
        """The filters as the ledger takes them: the dates as a half-open interval."""
        begin = {} if self.first is None else {"from": f"{self.first.isoformat()}T00:00:00Z"}
        end = {} if self.last is None else {"to": f"{(self.last + timedelta(days=1)).isoformat()}T00:00:00Z"}
        return {**self.texts, **begin, **end}

    def fields(self, **more: str) -> dict[str, str]:
        """The fields of a URL that asks for the same: ``visit.link(path, **asked.fields())``."""
        dates = {"from": str(self.first or ""), "to": str(self.last or ""), "all": "1" if self.everything else ""}
        return {**dates, **self.texts, **more}

    @property
    def daily(self) -> bool:
        """Whether periods are days, rather than months."""
        return self.first is not None and (self.last or self.today) - self.first <= _DAILY_MAX


def asked_of(query: Mapping[str, str], today: date) -> Asked:
    """What was asked for; without dates the last 30 days, with ``all`` everything. Raises UnusableFormError."""
    everything = query.get("all") == "1"
    first, last = _date(query, "from"), _date(query, "to")
    if everything:
        # The form comes with dates filled in; whoever ticks “All time” means all of it.
        first = last = None
    elif first is None and last is None:
        first = today - timedelta(days=_DAYS_SHOWN - 1)
    elif first is not None and last is not None and last < first:
        raise UnusableFormError("“to” must not be before “from”")
    texts = {name: value for name in TEXTS if (value := query.get(name, "").strip())}
    return Asked(first, last, texts, everything, today)


def _date(query: Mapping[str, str], name: str) -> date | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UnusableFormError(f"“{name}” must be a date such as 2026-04-27") from None
    if not 2000 <= day.year <= 2099:
        raise UnusableFormError(f"“{name}” must lie in the years 2000 to 2099")
    return day
