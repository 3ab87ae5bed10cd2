"""What if: what a key of one's own would have saved, of the real use of a time, for each provider and level."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from services.console.apis import Json
from services.console.breakdowns import ROWS_SHOWN
from services.console.filters import Asked, day_of
from services.console.months import month_before, month_of
from services.console.times import shown_days
from services.console.visit import Visit

PATH = "/what-if"
_LEVELS = {"organization": "Organization", "team": "Team {}", "personal": "You, {}"}
_OWNERS = {"team": "team_id", "personal": "user_id"}


async def what_if(visit: Visit) -> Response:
    """The page; of the last whole month where no time is asked for."""
    asked = _asked(visit)
    wanted = {name: value for name, value in asked.query().items() if name in ("from", "to", "provider")}
    found = await visit.ledger.get("organizations", visit.org_id, "what-if", query=wanted)
    options = [_Option.of(visit, asked, option) for option in found["options"]]
    return visit.page(
        "what_if.html",
        asked=asked,
        when=shown_days(asked.first or asked.today, asked.last or asked.today) if asked.first else "all time",
        spans=[
            (label, visit.link(PATH, **asked.on(*days).fields()), (asked.first, asked.last) == days)
            for label, days in (("Last month", month_before(asked.today)), ("This month", month_of(asked.today)))
        ],
        best=next((option for option in options if option.sums["would_save_mc"] > 0), None),
        options=options if visit.query.get("rows") == "all" else options[:ROWS_SHOWN],
        every_option=visit.link(PATH, **asked.fields(rows="all")) if len(options) > ROWS_SHOWN else None,
        options_in_all=len(options),
        position=found.get("position"),
    )


def _asked(visit: Visit) -> Asked:
    asked = visit.asked
    if asked.everything or day_of(visit.query, "from") or day_of(visit.query, "to"):
        return asked
    return asked.on(*month_before(asked.today))


class _Option(NamedTuple):
    level: str
    sums: Json
    entries: str
    """What would have cost less."""
    add: str
    """Where such a key is added."""
    said_mc: int
    """What of it a runner said that it used the platform's key for."""
    by_plan_mc: int
    """What of it the plan did not allow own keys for."""

    @classmethod
    def of(cls, visit: Visit, asked: Asked, option: Json) -> _Option:
        level, owner, provider = option["scope"]["type"], option["scope"]["id"], option["provider"]
        whose = {_OWNERS[level]: owner} if level in _OWNERS else {}
        behind = asked.but(*asked.texts).only({"provider": provider, "key_source": "platform", **whose})
        reasons = option["by_reason"]
        return cls(
            _LEVELS[level].format(owner),
            option,
            visit.link("/usage", **behind.fields()),
            visit.link("/credentials/new", level=level, id=owner if level == "team" else "", provider=provider),
            reasons.get("platform_claimed", 0),
            reasons.get("plan_not_entitled", 0),
        )
