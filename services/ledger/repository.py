"""Every question that the ledger answers from its entries, as SQL. Conditions are never built from text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    case,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy import Row as RowOf

from services.books import registry_log
from services.books.columns import IDENTITY, SUMMED
from services.books.registry_log import Recorded
from services.books.source_traces import OF_A_CHARGE
from services.books.tables import (
    DeadLetterRow,
    EntryBatch,
    EntryPosition,
    EntryRow,
    EntryView,
    SourcePartition,
    table_of,
)
from services.ledger.organizations import organizations_after
from services.ledger.query import Cursor, DeadLettersQuery, LetterCursor, Order, Selection
from services.ledger.refusals import Code
from services.ledger.selecting import conditions, credential_id, within
from services.ledger.settling import settle
from services.ledger.sums import Summed, named, summed, zones
from services.runtime.refusals import Refusal

_VIEW = table_of(EntryView)
_TABLE = table_of(EntryRow)
_POSITION = table_of(EntryPosition)
_BATCH = table_of(EntryBatch)
_PARTITION = table_of(SourcePartition)
_DEAD_LETTER = table_of(DeadLetterRow)

# Columns of the table that the view leaves out.
_OF_EVENT = [
    _TABLE.c[name] for name in ("parent_run_id", "succeeded", "claim_source", "claim_credential_id", "evidence")
]
_LAST_POSITION = select(func.coalesce(func.max(_POSITION.c.position), 0))

_STREAMED_ROWS = 1_000
_PLACES_AT_ONCE = 5_000
_UNPLACED_MAX = 500_000
_REGISTRY_ROWS = 5_000

Row = RowMapping
"""One row, by the names of its columns."""
SqlRow = RowOf[Any]
"""One row, by the places of its columns."""


STATEMENT_GROUPS = ("provider", "model", "key_source", "team_id")
"""By which columns a statement has its lines."""


class MonthSums(NamedTuple):
    """The sums of a month, as of one moment."""

    position: int
    """Up to which position in the feed."""
    lines: Sequence[Mapping[Any, Any]]
    changes: Sequence[Mapping[Any, Any]]
    """What of this month and of earlier ones was placed after a position that was given."""


class Extract(NamedTuple):
    """Entries of one moment."""

    position: int
    """Up to which position in the feed; all of them, and no others."""
    rows: Iterator[SqlRow]


def by_name(rows: Iterator[SqlRow]) -> Iterator[Row]:
    """The same rows, by the names of their columns."""
    return (row._mapping for row in rows)


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    return conditions(_VIEW.c, selection) + within(_VIEW.c.occurred_at, selection.filters)


def _refused(org_id: str, query: DeadLettersQuery) -> list[ColumnElement[bool]]:
    column = _DEAD_LETTER.c
    conditions = [column.org_id == org_id]
    conditions += [column[name] == value for name in ("event_type", "reason") if (value := getattr(query, name))]
    return conditions + within(column.failed_at, query)


def _entries(selection: Selection, *, with_event: bool = False) -> Select[Any]:
    """The selected entries as the caller sees them; ``with_event``: and what else ``event_of`` reads."""
    columns = [credential_id(selection.keys) if column.name == "credential_id" else column for column in _VIEW.c]
    statement = select(*columns).where(*_conditions(selection))
    if not with_event:
        return statement
    return statement.add_columns(*_OF_EVENT).join(_TABLE, _TABLE.c.entry_id == _VIEW.c.entry_id)


def _grouped(keys: Sequence[ColumnElement[Any]], selection: Selection) -> Select[Any]:
    events = func.coalesce(func.sum(case((_VIEW.c.kind == "reversal", -1), else_=1)), 0).label("events")
    totals = [func.coalesce(func.sum(_VIEW.c[name]), 0).label(name) for name in SUMMED]
    return select(*keys, events, *totals).where(*_conditions(selection)).group_by(*keys).order_by(*keys)


def _unplaced(connection: Connection) -> frozenset[UUID]:
    """The entries that wait for their places. A few seconds' worth: fewer to leave out than to join with all."""
    waiting = select(func.unnest(_BATCH.c.entry_ids)).limit(_UNPLACED_MAX + 1)
    ids = frozenset(connection.scalars(waiting))
    if len(ids) > _UNPLACED_MAX:
        raise Refusal(Code.BUSY, "Too many entries wait for their places in the feed; try again.", retry_seconds=30)
    return ids


def _ordered(statement: Select[Any], order: Order) -> Select[Any]:
    keys = (_VIEW.c.occurred_at, _VIEW.c.entry_id)
    return statement.order_by(*(key.asc() if order == "asc" else key.desc() for key in keys))


class EntryRepository:
    """Reads entries, and the evidence behind them. It raises SQLAlchemy's errors when the database is away."""

    def __init__(self, engine: Engine) -> None:
        """``engine`` has read-only connections."""
        self._engine = engine
        self._zones: frozenset[str] = frozenset()

    def page(self, selection: Selection, *, after: Cursor | None, order: Order, limit: int) -> list[Row]:
        """At most ``limit`` entries, beginning after the cursor."""
        statement = _ordered(_entries(selection), order).limit(limit)
        if after is not None:
            key = tuple_(_VIEW.c.occurred_at, _VIEW.c.entry_id)
            last = tuple_(
                literal(after.occurred_at, _VIEW.c.occurred_at.type), literal(after.entry_id, _VIEW.c.entry_id.type)
            )
            statement = statement.where(key > last if order == "asc" else key < last)
        return self._rows(statement)

    def settle(self) -> None:
        """Wait, for a moment, until what is booked now has its place; see ``settling``."""
        settle(self._engine)

    def sums(self, selection: Selection, groups: Sequence[str], tz: str, *, most: int) -> Summed:
        """The sums of the selected entries in groups, of one moment; see ``sums.summed``."""
        with self._snapshot() as (connection, position):
            return Summed(position, summed(connection, selection, groups, tz, most=most))

    def knows_zone(self, name: str) -> bool:
        """Whether there is such a time zone (IANA)."""
        if not self._zones:
            with self._engine.connect() as connection:
                self._zones = zones(connection)
        return name in self._zones

    def month_sums(self, month: Selection, since: int | None, zone: str, *, most: int) -> MonthSums:
        """The sums of a month by ``STATEMENT_GROUPS``, of one moment, over the entries that have their places then.

        With ``since`` also what got a place after it, of this month and of those before, by ``month`` of the zone, too.
        """
        with self._snapshot() as (connection, position):
            rows = summed(connection, month, STATEMENT_GROUPS, zone, most=most)
            lines = [named(row, STATEMENT_GROUPS) | dict(row) for row in rows]
            if since is None:
                return MonthSums(position, lines, [])
            keys = [_VIEW.c[name] for name in STATEMENT_GROUPS]
            month_of = func.to_char(func.timezone(zone, _VIEW.c.occurred_at), "YYYY-MM").label("month")
            until = month._replace(filters=month.filters.model_copy(update={"from_": None}))
            changes = _grouped([month_of, *keys], until).join(_POSITION, _POSITION.c.entry_id == _VIEW.c.entry_id)
            changes = changes.where(_POSITION.c.position > since).limit(most)
            return MonthSums(position, lines, connection.execute(changes).mappings().all())

    @contextmanager
    def stream(self, selection: Selection, *, with_event: bool = False) -> Iterator[Extract]:
        """All selected entries of one moment that have their places, oldest first, in the order of the view's columns.

        ``with_event``: behind them what else tells of the event. Through a server-side cursor: memory holds a thousand
        rows. Raises 503 ``busy`` while far more entries wait for their places than ever do.
        """
        with self._snapshot() as (connection, position):
            unplaced = _unplaced(connection)
            statement = _ordered(_entries(selection, with_event=with_event), "asc")
            rows = connection.execution_options(yield_per=_STREAMED_ROWS).execute(statement)
            yield Extract(position, (row for row in rows if row.entry_id not in unplaced) if unplaced else iter(rows))

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[Connection, int]]:
        """One moment of the database, and the last position in it."""
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection, connection.execute(_LAST_POSITION).scalar_one()

    def placed(self, selection: Selection, after: int, upto: int, *, with_event: bool = False) -> Iterator[SqlRow]:
        """The selected entries between two positions, the second included, in their order; the position comes last.

        What lies up to a position that is seen stays as it is: so it is read in parts, and no snapshot is held.
        """
        position = _POSITION.c.position
        statement = _entries(selection, with_event=with_event).add_columns(position)
        statement = statement.join(_POSITION, _VIEW.c.entry_id == _POSITION.c.entry_id).order_by(position)
        while after < upto:
            end = min(self.position_ahead(after, _PLACES_AT_ONCE) or upto, upto)
            part = statement.where(position > after, position <= end).limit(_STREAMED_ROWS)
            with self._engine.connect() as connection:
                rows = connection.execute(part).all()
            yield from rows
            after = rows[-1].position if len(rows) == _STREAMED_ROWS else end

    def newest_position(self) -> int:
        """The last position that an entry has; 0 where none has any."""
        return self._position(_LAST_POSITION) or 0

    def last_position(self, upto: int) -> int:
        """The last position that an entry has, of those up to one; 0 where none has any."""
        return self._position(select(func.max(_POSITION.c.position)).where(_POSITION.c.position <= upto)) or 0

    def position_ahead(self, after: int, entries: int) -> int | None:
        """The position of the last of so many entries that follow on ``after``; None where nothing does."""
        ahead = select(_POSITION.c.position).where(_POSITION.c.position > after)
        ahead = ahead.order_by(_POSITION.c.position).limit(entries)
        return self._position(select(func.max(ahead.subquery().c.position)))

    def _position(self, statement: Select[Any]) -> int | None:
        with self._engine.connect() as connection:
            position: int | None = connection.execute(statement).scalar_one()
            return position

    def feed(self, after: int, upto: int, org_id: str | None, *, most: int) -> list[Row]:
        """The entries between two positions, the second included, in their order; None: of every organization."""
        position = _POSITION.c.position
        statement = select(position, *_VIEW.c).join(_VIEW, _VIEW.c.entry_id == _POSITION.c.entry_id)
        statement = statement.where(position > after, position <= upto)
        if org_id is not None:
            statement = statement.where(_VIEW.c.org_id == org_id)
        return self._rows(statement.order_by(position).limit(most))

    def entry(self, entry_id: UUID) -> Row | None:
        """One entry with what its receipt needs."""
        rows = self._rows(select(_TABLE).where(_TABLE.c.entry_id == entry_id))
        return rows[0] if rows else None

    def revisions(self, entry: Row) -> list[Row]:
        """Every entry of one identity: charge, reversal, correction, reversal, correction, …"""
        statement = select(_TABLE).where(*(_TABLE.c[name] == entry[name] for name in IDENTITY))
        # A reversal stands before the correction of the same revision.
        return self._rows(statement.order_by(_TABLE.c.revision, _TABLE.c.kind.desc()))

    def source_partition(self, source_partition_id: int) -> Row | None:
        """The Kafka partition that a charge was read from."""
        statement = select(_PARTITION).where(_PARTITION.c.source_partition_id == source_partition_id)
        rows = self._rows(statement)
        return rows[0] if rows else None

    def traceparent(self, charge: Row) -> str | None:
        """The trace that a charge's event, or else its record, named."""
        place = {name: charge[f"source_{name}"] for name in ("offset", "index")}
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(OF_A_CHARGE, place | {"partition": charge["source_partition_id"]})
            trace: str | None = found.scalar()
            return trace

    def newest_change(self) -> int:
        """The ``seq`` of the newest registry change that is recorded; 0 where none is."""
        with self._engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT {registry_log.NEWEST}").scalar_one())

    def changes_after(self, arrival: int) -> Iterator[Recorded]:
        """The registry changes that came after one, in the order in which they came."""
        return self._recorded(registry_log.AFTER, arrival=arrival)

    def changes_as_of(self, keys: Sequence[str], seq: int) -> Iterator[Recorded]:
        """Of each registry key the last change up to ``seq``."""
        return self._recorded(registry_log.AS_OF, keys=keys, seq=seq)

    def changes(self, seqs: Sequence[int]) -> dict[int, Recorded]:
        """The changes with these numbers."""
        return {change.seq: change for change in self._recorded(registry_log.NAMED, seqs=seqs)}

    def _recorded(self, statement: str, **parameters: Any) -> Iterator[Recorded]:
        with self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=_REGISTRY_ROWS).exec_driver_sql(statement, parameters)
            yield from map(Recorded._make, rows)

    def organizations(self, after: str, search: str, *, most: int) -> list[str]:
        """At most so many organizations that follow on an id; see ``organizations_after``."""
        with self._engine.connect() as connection:
            return organizations_after(connection, after, search, most=most)

    def dead_letter_counts(self, org_id: str, query: DeadLettersQuery) -> dict[str, int]:
        """How many of an organization's events were refused, by reason."""
        column = _DEAD_LETTER.c
        statement = select(column.reason, func.count().label("refused")).where(*_refused(org_id, query))
        rows = self._rows(statement.group_by(column.reason).order_by(column.reason))
        return {row["reason"]: row["refused"] for row in rows}

    def dead_letters(
        self, org_id: str, query: DeadLettersQuery, *, most: int, after: LetterCursor | None = None
    ) -> list[Row]:
        """The newest of an organization's dead letters, beginning after one, and where in Kafka each was read."""
        place = _DEAD_LETTER.c.source_partition_id == _PARTITION.c.source_partition_id
        statement = (
            select(*_DEAD_LETTER.c, _PARTITION.c.topic, _PARTITION.c.partition)
            .join(_PARTITION, place)
            .where(*_refused(org_id, query))
        )
        if after is not None:
            key = tuple_(_DEAD_LETTER.c.failed_at, _DEAD_LETTER.c.dead_letter_id)
            last = (literal(after.failed_at, _DEAD_LETTER.c.failed_at.type), literal(after.dead_letter_id))
            statement = statement.where(key < tuple_(*last))
        newest_first = (_DEAD_LETTER.c.failed_at.desc(), _DEAD_LETTER.c.dead_letter_id.desc())
        return self._rows(statement.order_by(*newest_first).limit(most))

    def _rows(self, statement: Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return list(connection.execute(statement).mappings())
