"""Which rows a selection means, as conditions of SQL: on entries, and on their sums where these have the columns."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, case, false, or_, text

from services.books.tables import EntryView, table_of
from services.domain.permissions import Sight
from services.domain.scope import ScopeType
from services.ledger.query import DeadLettersQuery, Filters, Selection

_VIEW = table_of(EntryView)
_NO_FLAGS = text("'{}'")


class Columns(Protocol):
    """The columns of something, by name."""

    def __getitem__(self, name: str, /) -> ColumnElement[Any]:
        """The column that is called so."""


def columns_asked(selection: Selection) -> set[str]:
    """The columns that something must have for ``conditions`` on it."""
    names = {"org_id", *selection.filters.equalities()}
    if selection.filters.flag is not None:
        names.add("flags")
    return names if selection.visible.everything else {*names, "user_id", "team_id"}


def conditions(column: Columns, selection: Selection) -> list[ColumnElement[bool]]:
    """What holds for the rows that are meant, but for their time."""
    filters = selection.filters
    found = [column["org_id"] == selection.org_id]
    found += [column[name] == value for name, value in filters.equalities().items()]
    if filters.flag is not None:
        # Follows from the other, but only so is the index of entries with flags thought of.
        found += [column["flags"].any(filters.flag), column["flags"] != _NO_FLAGS]
    if filters.credential_id is not None and not selection.keys.everything:
        # Else a filter would tell which entries an id is of that no entry shows.
        found.append(_of_seen_key(selection.keys))
    if not selection.visible.everything:
        own = column["user_id"] == selection.visible.user_id
        found.append(or_(own, column["team_id"].in_(selection.visible.team_ids)))
    return found


def within(time: ColumnElement[Any], asked: Filters | DeadLettersQuery) -> list[ColumnElement[bool]]:
    """That a time lies in the stretch that is asked for."""
    begin = [] if asked.from_ is None else [time >= asked.from_]
    return begin if asked.to is None else [*begin, time < asked.to]


def _of_seen_key(keys: Sight) -> ColumnElement[bool]:
    # A key is applied within the event's own scopes alone, so its owner stands in the entry.
    column = _VIEW.c
    return or_(
        column.byok_scope == ScopeType.ORGANIZATION.value if keys.organization else false(),
        and_(column.byok_scope == ScopeType.TEAM.value, column.team_id.in_(keys.teams)),
        and_(column.byok_scope == ScopeType.PERSONAL.value, column.user_id == keys.user),
    )


def credential_id(keys: Sight) -> ColumnElement[Any]:
    """The key's id where the caller may know of that key, else NULL."""
    column: ColumnElement[Any] = _VIEW.c.credential_id
    return column if keys.everything else case((_of_seen_key(keys), column), else_=None).label("credential_id")
