"""Times as the API tells them, in the time zone of the reader, and the reader's days as times."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

UTC_TIME = ZoneInfo("UTC")
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


def beginning_of(day: date, zone: ZoneInfo) -> str:
    """When a day of the zone begins, as APIs take it."""
    return datetime.combine(day, time(), zone).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def today_in(zone: ZoneInfo) -> date:
    """The day that it is in the zone."""
    return datetime.now(zone).date()


def shown_days(first: date, last: date) -> str:
    """Days for people: ``1–29 November 2026``, ``28 October – 3 November 2026``."""
    if first == last:
        return f"{first.day} {first:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {last:%B %Y}"
    begin = f"{first.day} {first:%B}" if first.year == last.year else f"{first.day} {first:%B %Y}"
    return f"{begin} – {last.day} {last:%B %Y}"
