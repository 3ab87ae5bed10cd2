"""For operators of all organizations: which one the pages are to be about."""

from __future__ import annotations

from starlette.responses import Response

from services.console.sign_in.way_back import HOME, way_back
from services.console.visit import Visit

PATH = "/organizations"
_SHOWN_MAX = 50


async def organizations(visit: Visit) -> Response:
    """The page: a list with a search, each leading to where one wanted to go."""
    search = visit.query.get("search", "").strip()
    found = await visit.ledger.get("organizations", query={"limit": _SHOWN_MAX, "search": search})
    wanted = way_back(visit.query.get("next", HOME)).partition("?")[0]
    return visit.page(
        "organizations.html", search=search, wanted=wanted, found=found["organizations"], more=found["more"]
    )
