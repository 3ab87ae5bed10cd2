"""How the reader wants to see times and amounts: the time zone, and two decimals or all."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from services.console.preferences import UTC_ZONE, ZONES, Preferences, keep_preferences
from services.console.sign_in.way_back import HOME, way_back
from services.console.site import site_of
from services.console.visit import SEE_OTHER, Visit

PATH = "/preferences"


async def preferences(visit: Visit) -> Response:
    """The page, on which both can be chosen."""
    return visit.page("preferences.html", zones=ZONES, next=way_back(visit.query.get("next", HOME)))


async def keep(visit: Visit) -> Response:
    """Keep what was chosen, and go back to where the reader was."""
    zone = visit.form.get("zone", visit.preferences.zone)
    chosen = Preferences(zone if zone in ZONES else UTC_ZONE, visit.form.get("exact") == "1")
    answer = RedirectResponse(way_back(visit.form.get("next", HOME)), SEE_OTHER)
    keep_preferences(answer, chosen, secure=site_of(visit.request).cookie_secure(visit.request))
    return answer
