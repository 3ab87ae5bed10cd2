"""The monthly statement of an organization: what its use of a month lists at, costs and saves, up to a position.

A month is told by when the use was, so the statement of a month that is over still moves when something becomes known
late. ``since``, the position of an earlier statement, tells that apart: a bookkeeper who has closed a month takes what
came after it into the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.books.columns import SUMMED
from services.domain.credits import format_exactly
from services.ledger.query import StatementQuery
from services.ledger.repository import STATEMENT_GROUPS, MonthSums

Sums = dict[str, int]
CSV_COLUMNS = (
    *("section", "org_id", "month", "time_zone", "position", *STATEMENT_GROUPS, "events", "quantity"),
    *("list_credits", "charged_credits", "saved_credits"),
)
CSV_NUMBERS = frozenset({"position", "events", "quantity", "list_credits", "charged_credits", "saved_credits"})


def statement_of(
    org_id: str, platform: str, query: StatementQuery, found: MonthSums, now: datetime, told: Callable[[Sums], Any]
) -> dict[str, Any]:
    """The statement, with all that a page of it shows; ``told`` puts sums into words."""
    starts, ends = query.bounds()
    return {
        "org_id": org_id,
        "issuer": platform,
        "month": query.month,
        "tz": query.tz,
        "from": starts,
        "to": ends,
        "month_over": now >= ends,
        "position": found.position,
        "made_at": now,
        **_part(found.lines, told),
        "since": None if query.since is None else _since(query.since, query.month, found.changes, told),
    }


def _since(
    position: int, month: str, changes: Sequence[Mapping[Any, Any]], told: Callable[[Sums], Any]
) -> dict[str, Any]:
    return {
        "position": position,
        "this_month": _part([row for row in changes if row["month"] == month], told),
        "earlier_months": _part([row for row in changes if row["month"] != month], told, "month"),
    }


def _part(rows: Sequence[Mapping[Any, Any]], told: Callable[[Sums], Any], *more: str) -> dict[str, Any]:
    return {
        "lines": [{name: row[name] for name in (*more, *STATEMENT_GROUPS)} | told(_sums(row)) for row in rows],
        "total": told(_total(rows)),
    }


def _sums(row: Mapping[Any, Any]) -> Sums:
    return {name: int(row[name]) for name in ("events", *SUMMED)}


def _total(rows: Iterable[Mapping[Any, Any]]) -> Sums:
    sums = [_sums(row) for row in rows]
    return {name: sum(one[name] for one in sums) for name in ("events", *SUMMED)}


def csv_rows(statement: dict[str, Any]) -> Iterator[list[Any]]:
    """The same as rows of ``CSV_COLUMNS``; amounts in credits, exact, and each part closes with its total."""
    yield from _section("usage", statement, statement, statement["month"])
    if (since := statement["since"]) is not None:
        yield from _section("since_this_month", since["this_month"], statement, statement["month"])
        yield from _section("since_earlier_months", since["earlier_months"], statement, None)


def _section(name: str, part: dict[str, Any], statement: dict[str, Any], month: str | None) -> Iterator[list[Any]]:
    for section, line in (*((name, line) for line in part["lines"]), (f"{name}_total", part["total"])):
        head = [section, statement["org_id"], line.get("month", month), statement["tz"], statement["position"]]
        amounts = [format_exactly(line[f"{what}_mc"], decimals=6) for what in ("list", "charged", "saved")]
        yield [*head, *(line.get(group) for group in STATEMENT_GROUPS), line["events"], line["quantity"], *amounts]
