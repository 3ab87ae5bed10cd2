"""How a reader wants times and amounts: a cookie that holds nothing else, and that anybody may write."""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from starlette.requests import Request
from starlette.responses import Response

_COOKIE = "byok_preferences"
_YEAR = 365 * 24 * 3600
UTC_ZONE = "UTC"
ZONES: tuple[str, ...] = (
    UTC_ZONE,
    *sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "SystemV/"))),
)
"""The time zones that one can choose from."""


class Preferences(NamedTuple):
    """What a reader has chosen."""

    zone: str = UTC_ZONE
    exact: bool = False
    """Amounts with all their decimals, and not rounded to two."""

    @property
    def time_zone(self) -> ZoneInfo:
        """The zone that times are shown in."""
        return ZoneInfo(self.zone)


_KNOWN = frozenset(ZONES)


def read_preferences(request: Request) -> Preferences:
    """What the cookie says; the defaults for what it does not, or what is none of the choices."""
    zone, _, exact = request.cookies.get(_COOKIE, "").partition("|")
    return Preferences(zone if zone in _KNOWN else UTC_ZONE, exact == "exact")


def keep_preferences(response: Response, preferences: Preferences, *, secure: bool) -> None:
    """Have the browser keep them for a year."""
    value = f"{preferences.zone}|{'exact' if preferences.exact else ''}"
    response.set_cookie(_COOKIE, value, max_age=_YEAR, httponly=True, samesite="lax", secure=secure)
