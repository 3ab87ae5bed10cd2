"""Sums of entries in groups: from the roll-ups where these have what is asked for, else from the entries themselves.

Both are of one snapshot, in which the roll-ups are the sums of the entries that have a place; of entries, those that
wait for one are left out. So it is one answer, whichever way it is found, and it has a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    DateTime,
    FromClause,
    RowMapping,
    Select,
    TableClause,
    case,
    cast,
    column,
    func,
    literal,
    select,
    table,
    text,
    true,
    union_all,
)

from services.books.columns import SUMMED
from services.books.roll_ups import SUMS, RollUp
from services.books.tables import EntryView, table_of
from services.ledger.query import PERIODS, Selection
from services.ledger.selecting import columns_asked, conditions, credential_id
from services.ledger.sum_parts import Window, joined, parts, serving

_VIEW = table_of(EntryView)
_QUEUE = table("entry_batch", column("entry_ids", ARRAY(_VIEW.c.entry_id.type)), schema="ledger")
_UTC = "UTC"
_HOUR = timedelta(hours=1)
_TIME = DateTime(timezone=True)
# As the database's own time zone says it, which is the reader's for the length of the question.
_LABELS = {"hour": 'YYYY-MM-DD"T"HH24":00:00"TZH:TZM', "day": "YYYY-MM-DD", "month": "YYYY-MM"}
_NO_ZONES = ("localtime", "Factory", "posixrules")
# Hours in which one of the reader's periods ends, or in which the clocks are changed.
_CUT_HOURS = text("""
SELECT hour FROM generate_series(CAST(:first AS timestamptz), :last, interval '1 hour') AS hour,
  CAST('59 minutes 59.999999 seconds' AS interval) AS almost
WHERE timezone(:tz, hour + almost) - timezone(:tz, hour) <> almost
  OR date_trunc(:period, timezone(:tz, hour)) <> date_trunc(:period, timezone(:tz, hour + almost))
ORDER BY hour
""")


class Summed(NamedTuple):
    """Sums, and up to which position in the feed they go: of all entries up to there, and of no others."""

    position: int
    rows: list[RowMapping]


def named(row: RowMapping, groups: Sequence[str]) -> dict[str, Any]:
    """By what a row of ``summed`` is grouped, by the names of the groups."""
    return {name: row[f"group_{index}"] for index, name in enumerate(groups)}


def zones(connection: Connection) -> frozenset[str]:
    """The time zones that the database knows by their IANA names."""
    names = connection.execute(text("SELECT name FROM pg_timezone_names")).scalars()
    return frozenset(name for name in names if name not in _NO_ZONES and not name.startswith("posix/"))


def summed(
    connection: Connection, selection: Selection, groups: Sequence[str], tz: str, *, most: int
) -> list[RowMapping]:
    """The sums of each group, no more than ``most``. The connection's transaction must be one snapshot.

    Of each group ``group_0``, ``group_1``, … (see ``named``), and ``SUMS``; in the order of the groups. ``events``
    counts identities under the group they belong to in the end: a reversal takes one away.
    """
    connection.execute(text("SELECT set_config('TimeZone', :tz, true)"), {"tz": tz})
    question = _Question(selection, groups, tz)
    statement = question.statement(_cut_hours(connection, question)).limit(most)
    return list(connection.execute(statement).mappings())


class _Question:
    """What is asked for, and which part of its time is answered from where."""

    def __init__(self, selection: Selection, groups: Sequence[str], tz: str) -> None:
        self.selection = selection
        self.tz = tz
        self._groups = groups
        self._values = [name for name in groups if name not in PERIODS]
        self.period = next((name for name in PERIODS if name in groups), None)
        """The shortest period that is grouped by."""
        # Only in UTC do the reader's days and months begin with those of the roll-ups.
        longest = self.period or "month"
        periods = PERIODS[: PERIODS.index(longest) + 1] if tz == _UTC or self.period is None else ("hour",)
        names = {*columns_asked(selection), *self._values}
        window = Window(selection.filters.from_, selection.filters.to)
        self.parts = parts(window, serving(names, periods))

    def statement(self, cut: Sequence[datetime]) -> Select[Any]:
        """The sums of all parts together; of the hours ``cut``, whole parts though they are, from the entries."""
        found = [self._of_roll_up(part.window, part.roll_up, cut) for part in self.parts if part.roll_up]
        windows = [part.window for part in self.parts if part.roll_up is None]
        windows += joined(Window(hour, hour + _HOUR) for hour in cut)
        if windows:
            found.append(self._of_entries(windows))
        every = (union_all(*found) if len(found) > 1 else found[0]).subquery()
        keys = [_label(every, name).label(f"group_{index}") for index, name in enumerate(self._groups)]
        sums = [func.coalesce(func.sum(every.c[name]), 0).label(name) for name in SUMS]
        return select(*keys, *sums).group_by(*keys).order_by(*keys)

    def _of_roll_up(self, window: Window, roll_up: RollUp, cut: Sequence[datetime]) -> Select[Any]:
        view = _view(roll_up)
        begin = view.c[roll_up.period]
        where = conditions(view.c, self.selection) + _between(begin, window, roll_up)
        if cut:
            where.append(begin.not_in(select(func.unnest(_times(cut)))))
        sums = [func.sum(view.c[name]).label(name) for name in SUMS]
        at = cast(begin, _TIME)
        return self._grouped(view, at, [at], sums).where(*where)

    def _of_entries(self, windows: Sequence[Window]) -> Select[Any]:
        if len(windows) == 1:
            rows: FromClause = self._entries(*windows[0]).subquery()
            source = rows
        else:
            # Each of them is looked up by the index, whatever the planner takes them for together.
            starts, ends = zip(*windows, strict=True)
            span = func.unnest(_times(starts), _times(ends)).table_valued("begin", "end").render_derived()
            rows = self._entries(span.c.begin, span.c.end).offset(0).lateral()
            source = span.join(rows, true())
        events = func.sum(case((rows.c.kind == "reversal", -1), else_=1)).label("events")
        sums = [events, *(func.sum(rows.c[name]).label(name) for name in SUMMED)]
        at = rows.c.occurred_at
        return self._grouped(rows, func.min(at), self._period_of(at), sums).select_from(source)

    def _period_of(self, at: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """The reader's period by his clock. An hour has its offset, too: one that comes twice is two."""
        clock = func.timezone(self.tz, at)
        period = func.date_trunc(self.period, clock)
        return [period, clock - func.timezone(_UTC, at)] if self.period == "hour" else [period]

    def _entries(self, start: Any, end: Any) -> Select[Any]:
        """The selected entries of a window that have a place, with the columns that count."""
        columns, keys = _VIEW.c, self.selection.keys
        values = [credential_id(keys) if name == "credential_id" else columns[name] for name in self._values]
        wanted = {one.name: one for one in (*values, columns.kind, columns.occurred_at, *(columns[n] for n in SUMMED))}
        waiting = columns.entry_id.not_in(select(func.unnest(_QUEUE.c.entry_ids)))
        where = [*conditions(columns, self.selection), *_between(columns.occurred_at, Window(start, end)), waiting]
        return select(*wanted.values()).where(*where)

    def _grouped(
        self,
        rows: FromClause,
        at: ColumnElement[Any],
        period: Sequence[ColumnElement[Any]],
        sums: Sequence[ColumnElement[Any]],
    ) -> Select[Any]:
        """``at`` is any time in a group's period, by which it is named."""
        keys = [rows.c[name] for name in self._values]
        if self.period is None:
            return select(*keys, *sums).group_by(*keys)
        return select(*keys, at.label("at"), *sums).group_by(*keys, *period)


def _cut_hours(connection: Connection, question: _Question) -> list[datetime]:
    """The hours of the roll-ups that lie in two of the reader's periods: their entries are told apart one by one."""
    window = next((part.window for part in question.parts if part.roll_up), None)
    if question.period is None or question.tz == _UTC or window is None:
        return []
    at = _VIEW.c.occurred_at
    ours = select(func.min(at), func.max(at)).where(_VIEW.c.org_id == question.selection.org_id)
    first, last = connection.execute(ours).one()
    if first is None:
        return []
    # In UTC, for the database tells times in the reader's zone, and days of those have 23 or 25 hours.
    begin = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    begin = begin if window.start is None else max(begin, window.start)
    end = last if window.end is None else min(last, window.end - _HOUR)
    asked = {"first": begin, "last": end, "tz": question.tz, "period": question.period}
    return [hour.astimezone(UTC) for hour in connection.execute(_CUT_HOURS, asked).scalars()]


def _view(roll_up: RollUp) -> TableClause:
    return table(roll_up.view, *map(column, (*roll_up.columns, roll_up.period, *SUMS)), schema="ledger")


def _label(rows: FromClause, name: str) -> ColumnElement[Any]:
    return func.to_char(rows.c.at, _LABELS[name]) if name in PERIODS else rows.c[name]


def _between(begin: ColumnElement[Any], window: Window, roll_up: RollUp | None = None) -> list[ColumnElement[bool]]:
    by_date = roll_up is not None and roll_up.period != "hour"
    start, end = (at.date() if by_date and at is not None else at for at in window)
    found = [] if start is None else [begin >= start]
    return found if end is None else [*found, begin < end]


def _times(times: Sequence[datetime]) -> ColumnElement[Any]:
    return literal(list(times), ARRAY(_TIME))
