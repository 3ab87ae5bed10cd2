"""When keys came, as far as somebody may know: marks on a chart over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.console.apis import Api, Json
from services.console.times import instant

_PAGES_MAX = 5
_PAGE_KEYS = 200
# A rotation ends one interval and begins the next: nothing came.
_SAME = timedelta(seconds=1)


async def keys_seen(registry: Api, org_id: str) -> list[Json]:
    """The organization's keys that the caller may know of, at most a thousand. Raises ApiError."""
    found: list[Json] = []
    cursor: str | None = None
    for _ in range(_PAGES_MAX):
        query: dict[str, str | int] = {"org_id": org_id, "limit": _PAGE_KEYS, **({"cursor": cursor} if cursor else {})}
        page = await registry.get("credentials", query=query)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


class Came(NamedTuple):
    """A key that began to apply."""

    day: str
    """In the reader's time zone: ``2026-11-03``."""
    what: str
    """``personal key of ann for openai``."""


def keys_came(keys: Iterable[Json], zone: ZoneInfo) -> list[Came]:
    """Each beginning of a key's times, the earliest first."""
    return sorted(
        Came(f"{instant(begin['from']).astimezone(zone):%Y-%m-%d}", _what(key))
        for key in keys
        for begin in _beginnings(key["active"])
    )


def _beginnings(active: Iterable[Json]) -> Iterable[Json]:
    ended = None
    for interval in active:
        if ended is None or instant(interval["from"]) - ended > _SAME:
            yield interval
        ended = instant(interval["to"]) if interval["to"] else None


def _what(key: Json) -> str:
    owner = key["scope"]["id"]
    whose = {"organization": "organization's key", "team": f"key of team {owner}"}
    return f"{whose.get(key['scope']['type'], f'personal key of {owner}')} for {key['provider']}"


def by_period(came: Iterable[Came], *, daily: bool) -> Mapping[str, list[str]]:
    """What came in each day or month, by its name in a chart."""
    found: dict[str, list[str]] = {}
    for one in came:
        found.setdefault(one.day if daily else one.day[:7], []).append(one.what)
    return found
