"""Savings: what was listed, charged and saved, over time and by key, and the latest entries behind it."""

from __future__ import annotations

from asyncio import gather
from datetime import UTC, date, datetime
from typing import NamedTuple

from starlette.responses import Response

from services.console.apis import Json
from services.console.charts import Amount, every_day, every_month, savings_chart
from services.console.filters import TEXTS, Asked, asked_of
from services.console.visit import Visit
from services.domain.permissions import LEDGER_READ

PATH = "/savings"
_ENTRIES_SHOWN = 25
# What a refused event says of these, if it says anything, may be the very thing that is wrong with it.
_NOT_KNOWN = {"provider": "provider", "model": "model", "user_id": "user", "team_id": "team"}


async def savings(visit: Visit) -> Response:
    """The page."""
    asked = asked_of(visit.query, datetime.now(UTC).date())
    period = "day" if asked.daily else "month"
    of_org, query = ("organizations", visit.org_id), asked.query()
    by_period, by_key, latest, refused = await gather(
        visit.ledger.get(*of_org, "summary", query={**query, "group_by": period}),
        visit.ledger.get(*of_org, "summary", query={**query, "group_by": "provider,key_source,byok_scope"}),
        visit.ledger.get(*of_org, "entries", query={**query, "limit": _ENTRIES_SHOWN}),
        _refused(visit, asked),
    )
    amounts = without_gaps(_amounts(by_period["groups"], period), asked)
    return visit.page(
        "savings.html",
        asked=asked,
        filters=TEXTS,
        total=by_period["total"],
        period=period,
        amounts=amounts,
        chart=savings_chart(amounts),
        by_key=by_key["groups"],
        entries=latest["entries"],
        refused=refused,
    )


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
    not_known = [label for name, label in _NOT_KNOWN.items() if name in asked.texts]
    link = visit.link("/usage/dead-letters", **asked.fields(**dict.fromkeys(_NOT_KNOWN, "")))
    if not_known:
        return Refused(None, {}, not_known, link)
    counts = await visit.ledger.get("organizations", visit.org_id, "dead-letter-counts", query=asked.query())
    return Refused(counts["total"], counts["by_reason"], [], link)
