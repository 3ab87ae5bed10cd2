"""Sums by something: the tabs of a page, and of each row which entries are behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.console.apis import Json
from services.console.entry_words import KEY_SOURCES
from services.console.filters import Asked

ROWS_SHOWN = 12


class Breakdown(NamedTuple):
    """One way to take sums apart."""

    label: str
    groups: tuple[str, ...]
    """The ledger's groups; the filters of entries have the same names."""
    none: str
    """What has no value of it."""


BREAKDOWNS: Mapping[str, Breakdown] = {
    "provider": Breakdown("Provider", ("provider",), "no model"),
    "key": Breakdown("Key", ("key_source", "byok_scope"), ""),
    "model": Breakdown("Model", ("provider", "model"), "no model"),
    "team": Breakdown("Team", ("team_id",), "personal spaces"),
    "user": Breakdown("User", ("user_id",), ""),
    "workflow": Breakdown("Workflow", ("workflow_id",), "not a workflow's run"),
}
"""By the word that a URL has for it."""


class Row(NamedTuple):
    """The sums of one value, and the filters under which its entries are found."""

    name: str
    sums: Json
    asked: Asked


def breakdown_named(name: str) -> tuple[str, Breakdown]:
    """The breakdown of that name; of one that is none, the first."""
    known = name if name in BREAKDOWNS else next(iter(BREAKDOWNS))
    return known, BREAKDOWNS[known]


def rows_of(breakdown: Breakdown, groups: Sequence[Json], asked: Asked) -> list[Row]:
    """The rows, the dearest by list price first."""
    rows = [
        Row(_name(breakdown, group), group, asked.only({name: group[name] for name in breakdown.groups}))
        for group in groups
    ]
    return sorted(rows, key=lambda row: (-row.sums["list_mc"], row.name))


def _name(breakdown: Breakdown, group: Json) -> str:
    values = [group[name] for name in breakdown.groups]
    if breakdown.groups[0] == "key_source":
        source, level = values
        return f"{KEY_SOURCES[source]}{f', {level}' if level else ''}"
    return "/".join(values) if None not in values else breakdown.none
