"""Savings: this month against the last, over time with the keys that came, by what; figures lead to their entries."""

from __future__ import annotations

from asyncio import gather
from datetime import date
from typing import NamedTuple

from starlette.responses import Response

from services.console.apis import ApiError, Json
from services.console.breakdowns import BREAKDOWNS, ROWS_SHOWN, breakdown_named, rows_of
from services.console.charts import Amount, every_day, every_month, savings_chart
from services.console.filters import TEXTS, Asked
from services.console.key_marks import Came, by_period, keys_came, keys_seen
from services.console.months import Days, month_before, month_of, this_against_last
from services.console.times import shown_days
from services.console.visit import Visit
from services.domain.permissions import LEDGER_READ

PATH = "/savings"
_USAGE = "/usage"
_FILTERS = ("provider", "model", "user_id", "team_id")
_SHOWN_DAYS = (30, 90)


async def savings(visit: Visit) -> Response:
    """The page."""
    asked = visit.asked
    period = "day" if asked.daily else "month"
    by, breakdown = breakdown_named(visit.query.get("by", ""))
    compared = this_against_last(asked.today)
    by_period_sums, broken_down, this, last, came, refused = await gather(
        _sums(visit, asked, period),
        _sums(visit, asked, *breakdown.groups),
        _sums(visit, asked.on(*compared.this)),
        _sums(visit, asked.on(*compared.last)),
        _keys_came(visit),
        _refused(visit, asked),
    )
    amounts = without_gaps(_amounts(by_period_sums["groups"], period), asked)
    marks = by_period(came or (), daily=asked.daily)
    rows = rows_of(breakdown, broken_down["groups"], asked)
    shown = rows if visit.query.get("rows") == "all" else rows[:ROWS_SHOWN]
    more = {} if by == next(iter(BREAKDOWNS)) else {"by": by}
    return visit.page(
        "savings.html",
        asked=asked,
        form=_FILTERS,
        labels=TEXTS,
        chosen=[(words, visit.link(PATH, **asked.but(name).fields(**more))) for name, words in asked.said()],
        spans=[(label, visit.link(PATH, **one.fields(**more)), one == asked) for label, one in _spans(asked)],
        compared=[
            _Month(name, shown_days(*days), sums["total"], visit.link(_USAGE, **asked.on(*days).fields()))
            for name, days, sums in (("This month", compared.this, this), ("Last month", compared.last, last))
        ],
        days=compared.this.last.day,
        total=by_period_sums["total"],
        position=by_period_sums.get("position"),
        entries=visit.link(_USAGE, **asked.fields()),
        period=period,
        amounts=[
            _Period(amount, _entries_of(visit, asked, amount.period), marks.get(amount.period, []))
            for amount in amounts
        ],
        chart=savings_chart(amounts, marks),
        marks_known=came is not None,
        marked=any(amount.period in marks for amount in amounts),
        by=by,
        breakdown=breakdown,
        tabs=[
            (each.label, visit.link(PATH, **asked.fields(by=name)) + "#by", name == by)
            for name, each in BREAKDOWNS.items()
        ],
        rows=[(row.name, row.sums, visit.link(_USAGE, **row.asked.fields())) for row in shown],
        rows_in_all=len(rows),
        every_row=visit.link(PATH, **asked.fields(by=by, rows="all")) + "#by",
        csv=visit.link(f"{_USAGE}/export", **asked.fields(format="csv")),
        refused=refused,
    )


async def _sums(visit: Visit, asked: Asked, *groups: str) -> Json:
    return await visit.ledger.get("organizations", visit.org_id, "summary", query=asked.sums_by(*groups))


class _Month(NamedTuple):
    name: str
    days: str
    sums: Json
    entries: str


class _Period(NamedTuple):
    amount: Amount
    entries: str
    came: list[str]


def _spans(asked: Asked) -> list[tuple[str, Asked]]:
    """Times that are one click away, under the same filters."""
    today = asked.today
    month = month_of(today)
    open_ended = [
        (f"{days} days", asked._replace(first=_days_ago(today, days), last=None, everything=False))
        for days in _SHOWN_DAYS
    ]
    return [
        ("This month", asked.on(*month)),
        ("Last month", asked.on(*month_before(today))),
        *open_ended,
        ("All time", asked._replace(first=None, last=None, everything=True)),
    ]


def _days_ago(today: date, days: int) -> date:
    return date.fromordinal(today.toordinal() - days + 1)


def _entries_of(visit: Visit, asked: Asked, period: str) -> str:
    """The entries of one day, or of one month as far as it was asked for."""
    if len(period) == len("2026-11-03"):
        days = Days(date.fromisoformat(period), date.fromisoformat(period))
    else:
        days = month_of(date.fromisoformat(f"{period}-01"))
    first = max(days.first, asked.first or days.first)
    last = min(days.last, asked.last or days.last)
    return visit.link(_USAGE, **asked.on(first, last).fields())


async def _keys_came(visit: Visit) -> list[Came] | None:
    """None where it cannot be known: the registry is away, or shows this caller no keys."""
    try:
        keys = await keys_seen(visit.registry, visit.org_id)
    except ApiError:
        return None
    return keys_came(keys, visit.preferences.time_zone)


def _amounts(groups: list[Json], period: str) -> list[Amount]:
    return [Amount(group[period], group["list_mc"], group["charged_mc"], group["saved_mc"]) for group in groups]


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


class Refused(NamedTuple):
    """How many events were refused, as far as that can be told under the filters of the page."""

    total: int | None
    """None under filters that a dead letter cannot be judged by."""
    by_reason: dict[str, int]
    not_known: list[str]
    """Those filters."""
    link: str
    """To the list of them; under such filters, of all in that time."""


async def _refused(visit: Visit, asked: Asked) -> Refused | None:
    """What the page says of dead letters; None for whoever may not see any."""
    if LEDGER_READ not in visit.caller.scopes:
        return None
    # What a refused event says of all else, if it says anything, may be the very thing that is wrong with it.
    unknown = [name for name in (*asked.texts, *sorted(asked.without)) if name != "event_type"]
    judged = asked.but(*unknown)
    link = visit.link("/usage/dead-letters", **judged.fields())
    if unknown:
        return Refused(None, {}, [TEXTS[name].lower() for name in unknown], link)
    counts = await visit.ledger.get("organizations", visit.org_id, "dead-letter-counts", query=judged.query())
    return Refused(counts["total"], counts["by_reason"], [], link)
