"""What may be asked of the entries: filters, groups, order and cursors, for the API and the console alike."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple, Self
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.dead_letters import Reason
from schemas.fields import EventId, Id, Time
from services.books.roll_ups import Period
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.refusals import Code
from services.runtime.cursors import decode_cursor, encode_cursor
from services.runtime.refusals import Refusal

Order = Literal["asc", "desc"]
PERIODS: tuple[Period, ...] = ("hour", "day", "month")
"""Groups of time, the shortest first; they begin where they do in the reader's time zone."""
GROUPS = (
    *PERIODS,
    "event_type",
    "provider",
    "model",
    "priced_model",
    "tier",
    "key_source",
    "byok_scope",
    "credential_id",
    "user_id",
    "team_id",
    "agent_id",
    "workflow_id",
    "run_id",
    "node",
    "tool",
    "reason",
    "rate_card",
    "kind",
)
GROUPS_MAX = 10_000


ABSENT = ("provider", "model", "byok_scope", "team_id", "run_id", "agent_id", "workflow_id")
"""What an entry may have none of, as far as one can ask for it."""


class Filters(BaseModel):
    """Which entries. A filter that is not here is refused, so that a misspelt one never shows too much."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Time | None = Field(None, alias="from", description="occurred_at at or after this time.")
    to: Time | None = Field(None, description="occurred_at before this time.")
    user_id: Id | None = None
    team_id: Id | None = None
    provider: Id | None = None
    model: Id | None = None
    priced_model: Id | None = None
    event_type: Id | None = None
    key_source: Literal["byok", "platform", "none"] | None = None
    byok_scope: Literal["organization", "team", "personal"] | None = None
    credential_id: Id | None = None
    run_id: Id | None = None
    agent_id: Id | None = None
    workflow_id: Id | None = None
    kind: Literal["charge", "reversal", "correction"] | None = None
    reason: Id | None = None
    flag: Id | None = Field(None, description="Entries that carry this flag, among others.")
    rate_card: Id | None = None
    event_source: EventId | None = None
    event_id: EventId | None = None
    without: str | None = Field(
        None,
        pattern=rf"^({'|'.join(ABSENT)})(,({'|'.join(ABSENT)}))*$",
        max_length=200,
        description=f"Entries that have none of these, separated by commas: {', '.join(ABSENT)}.",
    )

    def equalities(self) -> dict[str, str | None]:
        """The columns that must equal a value; None: that must have none."""
        names = set(Filters.model_fields) - {"from_", "to", "flag", "without"}
        values = {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}
        return {**values, **dict.fromkeys(self.without.split(",") if self.without else ())}

    @model_validator(mode="after")
    def _not_something_and_nothing(self) -> Self:
        for name in self.without.split(",") if self.without else ():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} cannot be something and nothing at once")
        return self


class EntriesQuery(Filters):
    """One page of entries."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    cursor: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="next_cursor of the page before, or previous_cursor of the page after."
    )
    order: Order = Field("desc", description="By occurred_at; desc: newest first.")


class FeedQuery(BaseModel):
    """One page of the feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        0, description="next_position of the page before; 0: from the beginning."
    )
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    wait: Annotated[float, Field(ge=0, le=30)] = Field(
        0, description="How many seconds to wait for something new where there is nothing yet."
    )


class SummaryQuery(Filters):
    """Sums of entries, in groups."""

    group_by: str = Field("", max_length=400, description=f"Comma separated, of: {', '.join(GROUPS)}.")
    tz: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        "UTC", description="Where days, months and hours begin: a name of the IANA time zone database."
    )


class ExportQuery(Filters):
    """All entries, as a file."""

    format: Literal["csv", "jsonl", "focus"] = Field(description="focus: FOCUS 1.2 as CSV, a row per priced unit.")
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None,
        description="Only what follows on this position in the feed, in its order, each row with its position: to go "
        "on where a file ended, or broke off. 0: all of it in that order.",
    )
    billed: Literal["prepaid", "charged"] = Field(
        "prepaid", description="focus: BilledCost is 0, for credits are paid before, or what is charged."
    )


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be the name of a time zone, such as Europe/Berlin") from None
    return name


class StatementQuery(BaseModel):
    """One month of one organization."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    month: str = Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", description="Of occurred_at, such as 2026-10.")
    tz: Annotated[str, Field(max_length=64), AfterValidator(_zone)] = Field(
        "UTC", description="Whose month: a time zone such as Europe/Berlin."
    )
    since: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None, description="The position of an earlier statement: what came since is told apart, for earlier months too."
    )
    format: Literal["json", "csv"] = "json"

    def bounds(self) -> tuple[datetime, datetime]:
        """When the month begins, and when the next one does, in UTC."""
        year, month = map(int, self.month.split("-"))
        starts = datetime(year, month, 1, tzinfo=ZoneInfo(self.tz))
        ends = starts.replace(year=year + month // 12, month=month % 12 + 1)
        return starts.astimezone(UTC), ends.astimezone(UTC)


class WhatIfQuery(BaseModel):
    """What own keys would have saved."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Time | None = Field(None, alias="from", description="occurred_at at or after this time.")
    to: Time | None = Field(None, description="occurred_at before this time.")
    provider: Id | None = None


class DeadLettersQuery(BaseModel):
    """Which dead letters of an organization. Of what was refused no more is known for certain than this."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Time | None = Field(None, alias="from", description="failed_at at or after this time.")
    to: Time | None = Field(None, description="failed_at before this time.")
    event_type: Id | None = None
    reason: Reason | None = None


class DeadLettersPageQuery(DeadLettersQuery):
    """One page of dead letters, the newest first."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    cursor: Annotated[str, Field(max_length=300)] | None = Field(None, description="next_cursor of the page before.")


class OrganizationsQuery(BaseModel):
    """Which organizations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: Annotated[str, Field(max_length=128)] = Field("", description="A part of the id, in any case.")
    after: Id | None = Field(None, description="The last id of the page before.")
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class LetterCursor(NamedTuple):
    """The last dead letter of a page: the next page begins after it."""

    failed_at: datetime
    dead_letter_id: int

    def encode(self) -> str:
        """As an opaque text."""
        return encode_cursor([self.failed_at.isoformat(), self.dead_letter_id])


class Selection(NamedTuple):
    """The entries a question is about: of one organization, as filtered, as far as the caller may see."""

    org_id: str
    filters: Filters
    visible: Visible
    keys: Sight
    """Of which keys the caller may be shown the id."""


OTHER_WAY: Mapping[Order, Order] = {"asc": "desc", "desc": "asc"}


class Cursor(NamedTuple):
    """The last entry of a page: the next page begins after it; or the first, before which the previous one ends.

    Good for one order only.
    """

    occurred_at: datetime
    entry_id: UUID
    order: Order
    backwards: bool = False

    def encode(self) -> str:
        """As an opaque text."""
        place = [self.occurred_at.isoformat(), self.entry_id.hex, self.order]
        return encode_cursor([*place, _BACKWARDS] if self.backwards else place)


_BACKWARDS = "before"


def cursor_in(text: str, order: Order) -> Cursor:
    """The cursor in ``text``. Raises Refusal ``invalid_cursor`` for one that we did not give, or for another order."""
    try:
        at, entry_id, of_order, *backwards = decode_cursor(text)
        cursor = Cursor(datetime.fromisoformat(at), UUID(hex=entry_id), of_order, backwards == [_BACKWARDS])
    except (ValueError, TypeError, AttributeError):
        cursor = None
    if cursor is None or cursor.order != order or cursor.occurred_at.tzinfo is None:
        raise _no_cursor()
    if backwards and not cursor.backwards:
        raise _no_cursor()
    return cursor


def letter_cursor_in(text: str) -> LetterCursor:
    """The cursor in ``text``. Raises Refusal ``invalid_cursor`` for one that we did not give."""
    try:
        at, dead_letter_id = decode_cursor(text)
        cursor = LetterCursor(datetime.fromisoformat(at), dead_letter_id)
    except (ValueError, TypeError, AttributeError):
        raise _no_cursor() from None
    if type(dead_letter_id) is not int or not 0 <= dead_letter_id < 2**63 or cursor.failed_at.tzinfo is None:
        raise _no_cursor()
    return cursor


def _no_cursor() -> Refusal:
    return Refusal(Code.INVALID_CURSOR, "The cursor is not one that this query has given.")


def parse_groups(text: str) -> tuple[str, ...]:
    """The names in ``group_by``, each once. Raises 422 ``invalid_group`` that lists what there is."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text.strip() else ()
    if not set(names) <= set(GROUPS):
        raise Refusal(Code.INVALID_GROUP, f"group_by takes, separated by commas: {', '.join(GROUPS)}.")
    return names
