"""Times as the API tells them, in the time zone of the reader."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

_SECOND = "%Y-%m-%d %H:%M:%S"


def instant(text: str) -> datetime:
    """The time in RFC 3339 that an API answered with."""
    return datetime.fromisoformat(text)


def shown_time(text: str, zone: ZoneInfo) -> str:
    """To the second, on the reader's clock; the page says which zone that is."""
    return instant(text).astimezone(zone).strftime(_SECOND)


def zone_name(zone: ZoneInfo, at: datetime) -> str:
    """The zone as a reader knows it, with its distance from UTC at a time: ``Europe/Berlin (UTC+01:00)``."""
    offset = at.astimezone(zone).strftime("%z")
    return f"{zone.key} (UTC{offset[:3]}:{offset[3:]})" if offset != "+0000" or zone.key != "UTC" else "UTC"
