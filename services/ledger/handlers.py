"""What one can ask of the ledger, one use case each. They know no web framework, no broker (docs/design.md, Layout)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from services.books.columns import SUMMED
from services.domain.credits import round_half_even
from services.domain.permissions import EVERY_ORGANIZATION, LEDGER_READ, USAGE_WRITE, Caller
from services.ledger import what_if
from services.ledger.access import Visible, require_organization, require_quote, require_scope, visible_in
from services.ledger.admission import Door
from services.ledger.export import Export
from services.ledger.export_opening import Exports
from services.ledger.feed_position import require_stands
from services.ledger.key_sight import KeySight
from services.ledger.query import (
    GROUPS_MAX,
    OTHER_WAY,
    Cursor,
    DeadLettersPageQuery,
    DeadLettersQuery,
    EntriesQuery,
    ExportQuery,
    FeedQuery,
    Filters,
    LetterCursor,
    Order,
    OrganizationsQuery,
    Selection,
    StatementQuery,
    SummaryQuery,
    WhatIfQuery,
    cursor_in,
    letter_cursor_in,
    parse_groups,
)
from services.ledger.quotes import QuoteRequest, build_quote
from services.ledger.receipts import build_receipt
from services.ledger.refusals import Code, not_found
from services.ledger.registry import RegistryView
from services.ledger.repository import EntryRepository, Row
from services.ledger.statement import statement_of
from services.ledger.sums import named
from services.ledger.usage_batch import UsageRecord, UsageRequest, pack, read_events
from services.runtime.refusals import Refusal

_LOOKED_AT_MAX = 10_000
"""So many entries of the feed are looked at for one page, where those of one organization are wanted."""


class Publisher(Protocol):
    """Hands records to the broker."""

    def publish(self, records: Sequence[UsageRecord]) -> None:
        """Return when every record is acknowledged; raises 503 ``broker_unavailable`` in bounded time."""


class Page(NamedTuple):
    """Some entries, or dead letters, and the cursor of those that follow; None at the end."""

    entries: list[Row]
    next_cursor: str | None
    previous_cursor: str | None = None
    """Of those before; None at the beginning."""


class FeedPage(NamedTuple):
    """What follows on a position in the feed."""

    entries: list[Row]
    next_position: int
    void_after: int | None
    """The last position before the one that was asked for, where that is none: the ledger was set back to it."""


class Handlers:
    """The use cases, with what they work on."""

    def __init__(
        self,
        entries: EntryRepository,
        registry: RegistryView,
        publisher: Publisher,
        door: Door,
        *,
        record_bytes_max: int,
        platform: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``record_bytes_max`` bounds the value of one Kafka record; ``platform`` is the name of who sells."""
        self._entries = entries
        self._registry = registry
        self._publisher = publisher
        self._door = door
        self._record_bytes_max = record_bytes_max
        self._platform = platform
        self._now = now
        self._exports = Exports(entries, registry, platform)

    def accept_usage(self, caller: Caller, body: bytes) -> UsageRequest:
        """Hand the good events of a request to the broker, and tell what is wrong with the others.

        Raises where there is no good one, where one is of an organization the token is not good for (then nothing of
        the request is taken), and where the broker does not acknowledge all that is good.
        """
        require_scope(caller, USAGE_WRITE)
        request = read_events(body, self._now(), bytes_max=self._record_bytes_max)
        for org_id in request.organizations:
            require_organization(caller, org_id)
        request = self._door.admit(request, unlimited=caller.is_operator)
        self._publisher.publish(pack(request, bytes_max=self._record_bytes_max))
        return request

    def list_entries(self, caller: Caller, org_id: str, query: EntriesQuery) -> Page:
        """One page of what the caller may see. Pages neither repeat nor miss an entry that was there at the first."""
        selection = _selection(caller, org_id, query)
        after = None if query.cursor is None else cursor_in(query.cursor, query.order)
        back = after is not None and after.backwards
        # One more than asked for tells whether a page follows.
        order = OTHER_WAY[query.order] if back else query.order
        rows = self._entries.page(selection, after=after, order=order, limit=query.limit + 1)
        page, more = rows[: query.limit], len(rows) > query.limit
        if back:
            page.reverse()
        # Where one came from there is a page for certain.
        follows, precedes = (True, more) if back else (more, after is not None)
        return Page(
            page,
            _cursor_at(page[-1], query.order) if page and follows else None,
            _cursor_at(page[0], query.order, backwards=True) if page and precedes else None,
        )

    def feed(self, caller: Caller, query: FeedQuery) -> FeedPage:
        """A page of the feed, for services: of every organization, or of the one that the token is good for.

        ``next_position`` also passes by what is others', so a page may be empty before the end, and the end is where
        it stays as it was. It goes back where the ledger was set back to less than what was asked for.
        """
        require_scope(caller, LEDGER_READ)
        after, org_id = query.after, None if caller.is_everywhere else caller.org_id
        last = self._entries.last_position(after)
        void_after = last if last < after else None
        upto = self._entries.position_ahead(after, query.limit if org_id is None else _LOOKED_AT_MAX)
        if upto is None:
            return FeedPage([], last, void_after)
        # What lies up to a position that is seen stays as it is, so the two need not be of one moment.
        rows = self._entries.feed(after, upto, org_id, most=query.limit)
        return FeedPage(rows, rows[-1]["position"] if len(rows) == query.limit else upto, void_after)

    def summarize(self, caller: Caller, org_id: str, query: SummaryQuery) -> dict[str, Any]:
        """Exact sums in groups, over entries of every kind, and their total; all up to a position in the feed."""
        groups = parse_groups(query.group_by)
        if not self._entries.knows_zone(query.tz):
            raise Refusal(Code.UNKNOWN_TIME_ZONE, "tz must be the name of a time zone (IANA).", field="tz")
        position, rows = self._entries.sums(self._settled(caller, org_id, query), groups, query.tz, most=GROUPS_MAX + 1)
        if len(rows) > GROUPS_MAX:
            raise Refusal(Code.TOO_MANY_GROUPS, f"There are more than {GROUPS_MAX} groups; filter, or group by less.")
        totals = [_sums(row) for row in rows]
        whole = {name: sum(one[name] for one in totals) for name in ("events", *SUMMED)}
        return {
            "position": position,
            "groups": [named(row, groups) | _with_percent(total) for row, total in zip(rows, totals, strict=True)],
            "total": _with_percent(whole),
        }

    def what_if(self, caller: Caller, org_id: str, query: WhatIfQuery) -> dict[str, Any]:
        """What own keys would have saved of what was charged to the platform's, as far as the caller sees it."""
        filters = Filters.model_construct(
            from_=query.from_, to=query.to, provider=query.provider, key_source="platform"
        )
        selection = self._settled(caller, org_id, filters)
        position, rows = self._entries.sums(selection, what_if.GROUPS, "UTC", most=what_if.ROWS_MAX + 1)
        if len(rows) > what_if.ROWS_MAX:
            raise Refusal(Code.TOO_MANY_GROUPS, "There is too much to look through; ask for less time, or a provider.")
        used = (named(row, what_if.GROUPS) | _sums(row) for row in rows)
        levels = what_if.levels_of(caller, org_id, selection.visible)
        return {"position": position, "options": what_if.options(used, levels, self._registry.card_named)}

    def statement(self, caller: Caller, org_id: str, query: StatementQuery) -> dict[str, Any]:
        """One month of an organization, for those who see all of it.

        Raises 403 for others, 422 ``too_many_groups``, 409 ``ahead_of_ledger`` where ``since`` is no position.
        """
        starts, ends = query.bounds()
        selection = self._settled(caller, org_id, Filters.model_construct(from_=starts, to=ends))
        if not selection.visible.everything:
            raise Refusal(Code.INSUFFICIENT_SCOPE, "A statement is for admins of the organization, or ledger:read.")
        if query.since is not None:
            require_stands(self._entries, query.since)
        found = self._entries.month_sums(selection, query.since, query.tz, most=GROUPS_MAX + 1)
        if max(len(found.lines), len(found.changes)) > GROUPS_MAX:
            raise Refusal(Code.TOO_MANY_GROUPS, f"The statement has more than {GROUPS_MAX} lines; ask for summaries.")
        return statement_of(org_id, self._platform, query, found, self._now(), _with_percent)

    def export(self, caller: Caller, org_id: str, query: ExportQuery) -> Export:
        """The file, which the caller closes.

        Raises 503 ``busy`` where too many are being read, 409 ``ahead_of_ledger`` where ``after`` is no position.
        """
        return self._exports.open(self._settled(caller, org_id, query), query)

    def _settled(self, caller: Caller, org_id: str, filters: Filters) -> Selection:
        """What a question is about that is answered up to a position, once what is booked now has its place."""
        selection = _selection(caller, org_id, filters)
        self._entries.settle()
        return selection

    def receipt(self, caller: Caller, entry_id: UUID) -> dict[str, Any]:
        """What an entry follows from. Raises 404, also for one that the caller may not see."""
        entry = self._entries.entry(entry_id)
        if entry is None or not _may_see(caller, entry):
            raise not_found()
        return build_receipt(entry, self._entries, self._registry, KeySight(caller, entry["org_id"]))

    def count_dead_letters(self, caller: Caller, org_id: str, query: DeadLettersQuery) -> dict[str, int]:
        """How many of an organization's events were refused, by reason; for services alone."""
        _require_dead_letters(caller, org_id)
        return self._entries.dead_letter_counts(org_id, query)

    def page_dead_letters(self, caller: Caller, org_id: str, query: DeadLettersPageQuery) -> Page:
        """A page of them, the newest first, each without its payload. Raises 422 ``invalid_cursor``."""
        _require_dead_letters(caller, org_id)
        after = None if query.cursor is None else letter_cursor_in(query.cursor)
        letters = self._entries.dead_letters(org_id, query, most=query.limit + 1, after=after)
        shown = letters[: query.limit]
        last = shown[-1] if len(letters) > query.limit else None
        cursor = None if last is None else LetterCursor(last["failed_at"], last["dead_letter_id"]).encode()
        return Page(shown, cursor)

    def list_organizations(self, caller: Caller, query: OrganizationsQuery) -> dict[str, Any]:
        """A page of the organizations there are, for services that are good for every one; others hear of their own."""
        if not caller.is_everywhere:
            visible_in(caller, caller.org_id)
            return {"organizations": [{"org_id": caller.org_id}], "more": False}
        require_scope(caller, LEDGER_READ)
        found = self._entries.organizations(query.after or "", query.search, most=query.limit + 1)
        shown = [{"org_id": org_id} for org_id in found[: query.limit]]
        return {"organizations": shown, "more": len(found) > query.limit}

    def quote(self, caller: Caller, request: QuoteRequest) -> dict[str, Any]:
        """Which key would apply, at what price, and why."""
        org_id = request.org_id or caller.org_id
        if org_id == EVERY_ORGANIZATION:
            raise Refusal(Code.ORGANIZATION_REQUIRED, "This token is good for every organization: give org_id.")
        require_quote(caller, org_id, request.user_id, request.team_id)
        at = request.time or self._now()
        with self._registry.current(org_id, request.provider) as known:
            return build_quote(request, org_id, at, known, KeySight(caller, org_id))


def _require_dead_letters(caller: Caller, org_id: str) -> None:
    require_scope(caller, LEDGER_READ)
    require_organization(caller, org_id)


def _selection(caller: Caller, org_id: str, filters: Filters) -> Selection:
    return Selection(org_id, filters, visible_in(caller, org_id), KeySight(caller, org_id).of_entries)


def _may_see(caller: Caller, entry: Row) -> bool:
    try:
        visible: Visible = visible_in(caller, entry["org_id"])
    except Refusal:
        return False
    return visible.shows(entry["user_id"], entry["team_id"])


def _sums(row: Row) -> dict[str, int]:
    # PostgreSQL sums bigint as numeric, so no sum overflows; each is a whole number.
    return {name: int(row[name]) for name in ("events", *SUMMED)}


def _cursor_at(row: Row, order: Order, *, backwards: bool = False) -> str:
    return Cursor(row["occurred_at"], row["entry_id"], order, backwards).encode()


def _with_percent(sums: dict[str, int]) -> dict[str, Any]:
    return sums | {"saved_percent": saved_percent(sums["list_mc"], sums["saved_mc"])}


def saved_percent(list_mc: int, saved_mc: int) -> str | None:
    """The saving in percent of list with two decimals; None where nothing was listed."""
    if list_mc == 0:
        return None
    sign = 1 if list_mc > 0 else -1
    hundredths = round_half_even(sign * saved_mc * 10_000, abs(list_mc))
    return f"{'-' if hundredths < 0 else ''}{abs(hundredths) // 100}.{abs(hundredths) % 100:02}"
