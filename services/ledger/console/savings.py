"""What the savings page shows, gathered from the handlers: its filters, sums, chart and latest entries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.fields import Id
from services.domain.permissions import Caller
from services.ledger.console.charts import Amount, every_day, every_month, savings_chart
from services.ledger.handlers import Handlers
from services.ledger.query import EntriesQuery, SummaryQuery

_ID: TypeAdapter[str] = TypeAdapter(Id)
_DAYS_SHOWN = 30
_DAILY_MAX = timedelta(days=92)
_ENTRIES_SHOWN = 25
_TEXT_FILTERS = ("provider", "model", "user_id", "team_id", "event_type")
FORM_FIELDS = ("org_id", "from", "to", *_TEXT_FILTERS, "all", "reason")
"""What a page may be asked with."""

_Query = TypeVar("_Query", bound=BaseModel)


class Asked(NamedTuple):
    """What the form asks for; dates are UTC days, both included; None is open."""

    org_id: str
    first: date | None
    last: date | None
    filters: dict[str, str]
    everything: bool
    today: date

    def bounds(self) -> dict[str, str]:
        """The dates as the half-open interval that the ledger takes."""
        begin = {} if self.first is None else {"from": f"{self.first.isoformat()}T00:00:00Z"}
        if self.last is None:
            return begin
        return begin | {"to": f"{(self.last + timedelta(days=1)).isoformat()}T00:00:00Z"}

    def link(self, path: str, **more: str) -> str:
        """A page of ours about the same organization, time and filters."""
        dates = {"from": str(self.first or ""), "to": str(self.last or ""), "all": "1" if self.everything else ""}
        given = {"org_id": self.org_id, **dates, **self.filters, **more}
        return f"{path}?{urlencode({name: value for name, value in given.items() if value})}"

    @property
    def daily(self) -> bool:
        """Whether the bars are days, rather than months."""
        return self.first is not None and (self.last or self.today) - self.first <= _DAILY_MAX


class UnusableFormError(ValueError):
    """A field of the form cannot be used; the message says which."""


def read_form(query: Mapping[str, str], caller: Caller, today: date) -> Asked:
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
    own = "" if caller.is_everywhere else caller.org_id
    filters = {name: value for name in _TEXT_FILTERS if (value := query.get(name, "").strip())}
    return Asked(_organization(query) or own, first, last, filters, everything, today)


def _organization(query: Mapping[str, str]) -> str:
    text = query.get("org_id", "").strip()
    try:
        return _ID.validate_python(text) if text else ""
    except ValidationError:
        raise UnusableFormError("“org_id” is no id of an organization") from None


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


def query_of(model: type[_Query], given: Mapping[str, object]) -> _Query:
    """The ledger's query for what was given. Raises UnusableFormError that names the fields."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fields = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        raise UnusableFormError(f"these fields cannot be used: {fields}") from None


def savings_of(handlers: Handlers, caller: Caller, asked: Asked) -> dict[str, Any]:
    """Everything the page shows. Raises Refusal as the API does, and UnusableFormError."""
    period = "day" if asked.daily else "month"
    given = asked.filters | asked.bounds()
    by_period = query_of(SummaryQuery, {**given, "group_by": period})
    by_key = query_of(SummaryQuery, {**given, "group_by": "provider,key_source,byok_scope"})
    latest = query_of(EntriesQuery, {**given, "limit": _ENTRIES_SHOWN})
    periods = handlers.summarize(caller, asked.org_id, by_period)
    amounts = without_gaps(
        [
            Amount(group[period], group["list_mc"], group["charged_mc"], group["saved_mc"])
            for group in periods["groups"]
        ],
        asked,
    )
    return {
        "total": periods["total"],
        "period": period,
        "amounts": amounts,
        "chart": savings_chart(amounts),
        "by_key": handlers.summarize(caller, asked.org_id, by_key)["groups"],
        "entries": handlers.list_entries(caller, asked.org_id, latest).entries,
    }


def without_gaps(amounts: list[Amount], asked: Asked) -> list[Amount]:
    """The amounts with a 0 for each period in which nothing was used: of days all that were asked for, of months all
    between the first and the last that have anything."""
    if not amounts:
        return []
    known = {amount.period: amount for amount in amounts}
    if asked.daily and asked.first is not None:
        last = asked.last or max(asked.today, date.fromisoformat(amounts[-1].period))
        periods = every_day(min(asked.first, date.fromisoformat(amounts[0].period)), last)
    else:
        periods = every_month(amounts[0].period, amounts[-1].period)
    return [known.get(period, Amount(period, 0, 0, 0)) for period in periods]
