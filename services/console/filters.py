"""The filters of a page, which its URL has: which days of the reader's time zone, and which entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.console.times import UTC_TIME, beginning_of

_DAYS_SHOWN = 30
_DAILY_MAX = timedelta(days=92)
TEXTS: Mapping[str, str] = {
    "provider": "Provider",
    "model": "Model",
    "user_id": "User",
    "team_id": "Team",
    "workflow_id": "Workflow",
    "event_type": "Event type",
    "key_source": "Key",
    "byok_scope": "Level of the key",
    "reason": "Why this key",
    "flag": "Flag",
    "kind": "Kind of entry",
    "run_id": "Run",
    "event_id": "Event id",
    "credential_id": "Credential",
    "agent_id": "Agent",
}
"""What entries can be filtered by, with its label."""
WITHOUT = "without"
"""The field that names, with commas between, what entries must have none of."""
ABSENT: Mapping[str, str] = {
    "provider": "a provider",
    "model": "a model",
    "team_id": "a team",
    "workflow_id": "a workflow",
    "byok_scope": "an own key",
}
"""What they may be asked to have none of, in words."""


class UnusableFormError(ValueError):
    """A field of the form cannot be used; the message says which."""


class Asked(NamedTuple):
    """What the URL asks for; dates are days of the zone, both included; None is open."""

    first: date | None
    last: date | None
    texts: Mapping[str, str]
    everything: bool
    today: date
    zone: ZoneInfo = UTC_TIME
    without: frozenset[str] = frozenset()

    def query(self) -> dict[str, str]:
        """The filters as the ledger takes them: the dates as a half-open interval."""
        begin = {} if self.first is None else {"from": beginning_of(self.first, self.zone)}
        end = {} if self.last is None else {"to": beginning_of(self.last + timedelta(days=1), self.zone)}
        return {**self.texts, **begin, **end, **self._absent()}

    def sums_by(self, *groups: str) -> dict[str, str]:
        """The same as a question for sums; the ledger's own days are those of UTC."""
        zone = {} if self.zone.key == UTC_TIME.key else {"tz": self.zone.key}
        return {**self.query(), **({"group_by": ",".join(groups)} if groups else {}), **zone}

    def fields(self, **more: str) -> dict[str, str]:
        """The fields of a URL that asks for the same: ``visit.link(path, **asked.fields())``."""
        dates = {"from": str(self.first or ""), "to": str(self.last or ""), "all": "1" if self.everything else ""}
        return {**dates, **self.texts, **self._absent(), **more}

    def only(self, values: Mapping[str, str | None]) -> Asked:
        """Of the same entries those with these values; None: those without any."""
        given = {name: value for name, value in values.items() if value is not None}
        absent = {name for name, value in values.items() if value is None}
        return self._replace(texts={**self.texts, **given}, without=self.without | absent)

    def but(self, *names: str) -> Asked:
        """The same without the filters of these names."""
        texts = {name: value for name, value in self.texts.items() if name not in names}
        return self._replace(texts=texts, without=self.without - set(names))

    def on(self, first: date, last: date) -> Asked:
        """The same on other days."""
        return self._replace(first=first, last=last, everything=False)

    def said(self) -> list[tuple[str, str]]:
        """The filters that hold, by name, in words."""
        values = [(name, f"{TEXTS[name]}: {value}") for name, value in self.texts.items()]
        return values + [(name, f"Without {ABSENT[name]}") for name in sorted(self.without)]

    def _absent(self) -> dict[str, str]:
        return {WITHOUT: ",".join(sorted(self.without))} if self.without else {}

    @property
    def daily(self) -> bool:
        """Whether periods are days, rather than months."""
        return self.first is not None and (self.last or self.today) - self.first <= _DAILY_MAX


def asked_of(query: Mapping[str, str], today: date, zone: ZoneInfo = UTC_TIME) -> Asked:
    """What was asked for; without dates the last 30 days, with ``all`` everything. Raises UnusableFormError."""
    everything = query.get("all") == "1"
    first, last = day_of(query, "from"), day_of(query, "to")
    if everything:
        # The form comes with dates filled in; whoever ticks “All time” means all of it.
        first = last = None
    elif first is None and last is None:
        first = today - timedelta(days=_DAYS_SHOWN - 1)
    elif first is not None and last is not None and last < first:
        raise UnusableFormError("“to” must not be before “from”")
    texts = {name: value for name in TEXTS if (value := query.get(name, "").strip())}
    return Asked(first, last, texts, everything, today, zone, _absent(query.get(WITHOUT, "").split(","), texts))


def _absent(names: Iterable[str], texts: Mapping[str, str]) -> frozenset[str]:
    found = frozenset(name for name in names if name in ABSENT)
    if both := sorted(found & texts.keys()):
        raise UnusableFormError(f"“{TEXTS[both[0]]}” cannot be something and nothing at once")
    return found


def day_of(query: Mapping[str, str], name: str) -> date | None:
    """The day in a field; None where it is empty. Raises UnusableFormError."""
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
