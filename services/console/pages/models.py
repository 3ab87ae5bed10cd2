"""Models: what each costs with and without an own key, by which card, on which day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import groupby
from operator import itemgetter

from starlette.responses import Response

from services.console import credential_words
from services.console.apis import Json
from services.console.filters import day_of
from services.console.pasted_keys import without_key
from services.console.visit import Visit

PATH = "/models"
MAIN_UNITS: Mapping[str, str] = {"input": "Input", "cache_read": "Cached input", "output": "Output"}
"""The units that have a column of their own."""


async def models(visit: Visit) -> Response:
    """The page; its search is in the names, also in the other names."""
    day, today = day_of(visit.query, "day"), datetime.now(UTC).date()
    found = await visit.registry.get("models", query=_as_of(day, today))
    search, provider = (without_key(visit.query.get(name, "").strip()) for name in ("search", "provider"))
    wanted = [each for each in found["models"] if _is_wanted(each, search.lower(), provider)]
    return visit.page(
        "models.html",
        says=credential_words,
        card=found,
        day=day,
        today=today,
        search=search,
        provider=provider,
        providers=sorted({each["provider"] for each in found["models"]}),
        by_provider=[(name, list(each)) for name, each in groupby(wanted, itemgetter("provider"))],
        how_many=len(wanted),
        main_units=MAIN_UNITS,
    )


def _as_of(day: date | None, today: date) -> dict[str, str]:
    """Prices change with a day (UTC), so those of its beginning are those of the day; of today those of now."""
    return {} if day is None or day == today else {"at": f"{day.isoformat()}T00:00:00Z"}


def _is_wanted(model: Json, search: str, provider: str) -> bool:
    if provider and model["provider"] != provider:
        return False
    return any(search in name.lower() for name in (model["model"], *model["aliases"]))
