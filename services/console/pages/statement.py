"""The statement of a month, to be printed or kept; its lines lead to the entries behind them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from starlette.responses import Response

from services.console.apis import Json
from services.console.downloads import download
from services.console.entry_words import KEY_SOURCES
from services.console.filters import Asked, UnusableFormError
from services.console.months import month_before, month_of, months_up_to
from services.console.visit import Visit

PATH = "/statement"
FILE_PATH = "/statement/file"
_MONTHS_SHOWN = 24
_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


async def statement(visit: Visit) -> Response:
    """The page; of the last whole month where none is asked for."""
    today = visit.asked.today
    wanted = _wanted(visit, today)
    found = await visit.ledger.get("organizations", visit.org_id, "statement", query=wanted)
    days = month_of(date.fromisoformat(f"{wanted['month']}-01"))
    asked = Asked(*days, {}, everything=False, today=today, zone=visit.preferences.time_zone)
    months = months_up_to(today, _MONTHS_SHOWN)
    return visit.page(
        "statement.html",
        statement=found,
        name=f"{days.first:%B %Y}",
        days=days,
        months=months if wanted["month"] in months else [wanted["month"], *months],
        lines=_lines(visit, asked, found["lines"]),
        entries=visit.link("/usage", **asked.fields()),
        since=_since(found["since"]),
        csv=visit.link(FILE_PATH, **wanted),
    )


async def statement_file(visit: Visit) -> Response:
    """The same as CSV."""
    wanted = {**_wanted(visit, visit.asked.today), "format": "csv"}
    return await download(visit.ledger, "organizations", visit.org_id, "statement", query=wanted)


def _wanted(visit: Visit, today: date) -> dict[str, str]:
    month = visit.query.get("month", "").strip() or f"{month_before(today).first:%Y-%m}"
    if not _MONTH.fullmatch(month):
        raise UnusableFormError("“month” must be a month such as 2026-10")
    since = visit.query.get("since", "").strip()
    return {"month": month, "tz": visit.preferences.zone, **({"since": since} if since else {})}


class _Line(NamedTuple):
    what: str
    team: str
    key: str
    sums: Json
    entries: str


def _lines(visit: Visit, asked: Asked, lines: Sequence[Json]) -> list[_Line]:
    return [_line(line, visit.link("/usage", **asked.only(_filters(line)).fields())) for line in lines]


def _filters(line: Json) -> Mapping[str, str | None]:
    return {name: line[name] for name in ("provider", "model", "key_source", "team_id")}


def _line(line: Json, entries: str) -> _Line:
    model = f"{line['provider']}/{line['model']}" if line["provider"] else "Tools and runs"
    return _Line(model, line["team_id"] or "personal spaces", KEY_SOURCES[line["key_source"]], line, entries)


class _Since(NamedTuple):
    position: int
    this_month: Json
    earlier: list[tuple[str, _Line]]


def _since(since: Json | None) -> _Since | None:
    if since is None:
        return None
    earlier = [(line["month"], _line(line, "")) for line in since["earlier_months"]["lines"]]
    return _Since(since["position"], since["this_month"]["total"], earlier)
