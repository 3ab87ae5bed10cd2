"""Usage: entries as filtered, page by page, with the sums of all that is selected; and the same as a file."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.responses import Response

from services.console import entry_words
from services.console.apis import ApiError, Json
from services.console.downloads import download
from services.console.filters import TEXTS, WITHOUT, Asked
from services.console.visit import Visit
from services.domain.permissions import LEDGER_READ

PATH = "/usage"
EXPORT_PATH = "/usage/export"
_SHOWN = 50
_SUGGESTED_MAX = 500
_FORMATS = {"csv": "CSV", "jsonl": "JSON Lines", "focus": "FOCUS 1.2"}
_SEARCHED = ("run_id", "event_id", "workflow_id")
_TOO_MANY = "too_many_groups"


async def usage(visit: Visit) -> Response:
    """The page."""
    asked, cursor = visit.asked, visit.query.get("cursor", "")
    of_org = ("organizations", visit.org_id)
    page, sums, (models, types, users, teams) = await gather(
        visit.ledger.get(*of_org, "entries", query={**asked.query(), "limit": _SHOWN, **_given(cursor=cursor)}),
        visit.ledger.get(*of_org, "summary", query=asked.sums_by()),
        gather(
            _values(visit, asked, "provider", "model"),
            _values(visit, asked, "event_type"),
            _values(visit, asked, "user_id"),
            _values(visit, asked, "team_id"),
        ),
    )
    return visit.page(
        "usage.html",
        asked=asked,
        labels=TEXTS,
        choices=_choices(asked, models, types),
        suggested={"user_id": _texts(users, "user_id"), "team_id": _texts(teams, "team_id")},
        searched=_SEARCHED,
        kept=[(name, value) for name, value in asked.fields().items() if name in _KEPT and value],
        chosen=[(said, visit.link(PATH, **asked.but(name).fields())) for name, said in asked.said()],
        total=sums["total"],
        position=sums.get("position"),
        entries=page["entries"],
        flags=entry_words.flags_met(page["entries"]),
        has_corrections=any(entry["kind"] != "charge" for entry in page["entries"]),
        newer=_to_page(visit, asked, page.get("previous_cursor")),
        newest=visit.link(PATH, **asked.fields()) if cursor else None,
        older=_to_page(visit, asked, page["next_cursor"]),
        files=[(label, visit.link(EXPORT_PATH, **asked.fields(format=name))) for name, label in _FORMATS.items()],
        dead_letters=visit.link("/usage/dead-letters", **asked.but(*asked.texts, *asked.without).fields())
        if LEDGER_READ in visit.caller.scopes
        else None,
    )


async def export(visit: Visit) -> Response:
    """All that the filters select, as a file."""
    wanted = {**visit.asked.query(), "format": visit.query.get("format", "csv")}
    return await download(visit.ledger, "organizations", visit.org_id, "export", query=wanted)


class Choice(NamedTuple):
    """A value that a filter can have."""

    value: str
    label: str


# Filters that no field of the form has: they are kept, and taken away by a link.
_KEPT = (WITHOUT, "credential_id", "agent_id", "byok_scope")


def _choices(asked: Asked, models: Sequence[Json], types: Sequence[Json]) -> Mapping[str, list[Choice]]:
    """For each list its values: those that occur, and the one that is asked for."""
    listed = {
        "event_type": {name: entry_words.EVENT_TYPES.get(name, name) for name in _texts(types, "event_type")},
        "provider": {name: name for name in _texts(models, "provider")},
        "model": {name: name for name in _texts(models, "model")},
        "key_source": entry_words.KEY_SOURCES,
        "reason": entry_words.KEYS_IN_SHORT,
        "flag": entry_words.FLAGS_IN_SHORT,
        "kind": entry_words.KINDS,
    }
    return {
        name: [Choice(*each) for each in _with_own(values, asked.texts.get(name)).items()]
        for name, values in listed.items()
    }


def _with_own(values: Mapping[str, str], own: str | None) -> Mapping[str, str]:
    return values if own is None or own in values else {**values, own: own}


async def _values(visit: Visit, asked: Asked, *names: str) -> list[Json]:
    """The values that occur in the time that is asked for, whatever else is; none where there are too many to list."""
    every = asked.but(*asked.texts, *asked.without)
    try:
        sums = await visit.ledger.get("organizations", visit.org_id, "summary", query=every.sums_by(*names))
    except ApiError as error:
        if error.code == _TOO_MANY:
            return []
        raise
    groups: list[Json] = sums["groups"]
    return groups


def _texts(groups: Sequence[Json], name: str) -> list[str]:
    return sorted({group[name] for group in groups if group[name] is not None})[:_SUGGESTED_MAX]


def _to_page(visit: Visit, asked: Asked, cursor: str | None) -> str | None:
    return visit.link(PATH, **asked.fields(cursor=cursor)) if cursor else None


def _given(**fields: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}
