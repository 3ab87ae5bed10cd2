"""The shapes of the ledger's answers, for OpenAPI. The answers themselves are written without a second validation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.books.tables import EntryColumns


class EventProblem(BaseModel):
    """What is wrong with one event of a request."""

    index: int = Field(description="Its place in the batch, from 0.")
    field: str = Field(description="The path of the field; empty: the event as a whole.")
    code: str
    detail: str


class Accepted(BaseModel):
    """How many events the broker has acknowledged."""

    accepted: int


class PartlyAccepted(Accepted):
    """What became of a request of which some events are good, and were taken, and others are not."""

    refused: int = Field(
        description="How many events were not taken. Only where a price was missing (no_rate_card, unpriced_…) or "
        "too many came (dead_letter_quota) can they be taken later, as they are."
    )
    errors: list[EventProblem] = Field(description="What is wrong with them; each is named at least once.")


class EntriesPage(BaseModel):
    """One page of entries. Amounts are in mc, 10^-6 credit."""

    entries: list[EntryColumns]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null at the end.")
    previous_cursor: str | None = Field(
        None, description="Give it as `cursor` for the page before; null at the beginning."
    )


class FeedEntry(EntryColumns):
    """An entry and its place in the feed."""

    position: int


class FeedPage(BaseModel):
    """What follows on a position. Amounts are in mc, 10^-6 credit."""

    entries: list[FeedEntry]
    next_position: int = Field(description="Give it as `after` for the next page. Where it stays, nothing is new.")
    void_after: int | None = Field(
        description="Mostly null. Else the ledger was set back (restored) to less than what you had read: take back "
        "what you have of positions above this one, up to `after`. What of it is booked again comes again."
    )


class DeadLetter(BaseModel):
    """A refused event without its payload; what could not be read of it is null."""

    dead_letter_id: int
    reason: str
    detail: str
    failed_at: datetime
    event_source: str | None
    event_id: str | None
    event_type: str | None
    topic: str
    partition: int
    source_offset: int
    source_index: int = Field(description="Its place in the batch, from 0.")


class DeadLettersPage(BaseModel):
    """One page of dead letters, the newest first."""

    dead_letters: list[DeadLetter]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null at the end.")


class DeadLetterCounts(BaseModel):
    """How many events were refused."""

    total: int
    by_reason: dict[str, int]


class Organization(BaseModel):
    """One organization."""

    org_id: str


class Organizations(BaseModel):
    """One page of organizations, by their ids."""

    organizations: list[Organization]
    more: bool = Field(description="Whether more follow: ask with the last id as `after`.")


class Sums(BaseModel):
    """Sums over charges, reversals and corrections. Amounts are in mc."""

    model_config = ConfigDict(extra="allow")

    events: int
    quantity: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    list_mc: int
    charged_mc: int
    saved_mc: int
    saved_percent: str | None = Field(description="Two decimals; null where nothing was listed.")


class Summary(BaseModel):
    """Groups in the order of their values, each with the values that it was grouped by; and the total."""

    position: int = Field(description="Of all entries up to this position in the feed, and of no others.")
    groups: list[Sums]
    total: Sums


class StatementLine(Sums):
    """The sums of one provider, model, key source and team; of what came since an earlier statement also its month."""

    provider: str | None
    model: str | None
    key_source: str
    team_id: str | None = Field(description="null: personal spaces.")
    month: str | None = Field(None, description="In earlier_months alone: when the use was.")


class StatementPart(BaseModel):
    """Lines in the order of their values, and their total."""

    lines: list[StatementLine]
    total: Sums


class KeyScope(BaseModel):
    """Whose key it would be."""

    type: str
    id: str


class KeyOption(BaseModel):
    """What one key would have made of what was charged to the platform's. Amounts are in mc."""

    provider: str
    scope: KeyScope
    events: int
    list_mc: int
    charged_mc: int
    own_key_mc: int = Field(description="What would have been charged with the key.")
    would_save_mc: int
    within_mc: int = Field(description="By no more it differs from what the entries come to, each priced alone.")
    by_reason: dict[str, int] = Field(description="What of it would have been saved, by why no own key was used.")


class WhatIf(BaseModel):
    """What own keys would have saved, the largest saving first. Options overlap: do not add them up."""

    position: int = Field(description="Of all entries up to this position in the feed, and of no others.")
    options: list[KeyOption]


class Since(BaseModel):
    """What was booked after an earlier statement: late events, and corrections both ways."""

    position: int = Field(description="Of the earlier statement.")
    this_month: StatementPart = Field(description="What of the month's sums came since; it is part of them.")
    earlier_months: StatementPart = Field(description="What came of months before; it is no part of this one's sums.")


class Statement(StatementPart):
    """One month of one organization, up to a position in the feed."""

    org_id: str
    issuer: str = Field(description="Who sells.")
    month: str
    tz: str
    from_: datetime = Field(alias="from", description="When the month begins, in UTC.")
    to: datetime = Field(description="When the next one does.")
    month_over: bool = Field(description="Whether it was over when the statement was made; also then it may move.")
    position: int = Field(description="Up to which position in the feed it counts. Give it as `since` later on.")
    made_at: datetime
    since: Since | None


class Receipt(BaseModel):
    """Everything that an entry follows from, derived again."""

    model_config = ConfigDict(extra="allow")

    entry: EntryColumns
    revisions: list[dict[str, Any]] = Field(description="Every entry of the same event, with what caused it.")
    evidence: dict[str, Any] = Field(
        description="Plan, keys looked at, rate card, arithmetic; `agrees` with the entry?"
    )
    traceparent: str | None = Field(
        None, description="The trace (W3C) that the event, its Kafka record or its request named; null where none did."
    )


class Quote(BaseModel):
    """Which key would apply, at what price, and why."""

    model_config = ConfigDict(extra="allow")

    key: dict[str, Any]
    candidates: list[dict[str, Any]]
    rate_card: dict[str, Any]
    node_call: dict[str, Any]
    token_usage: dict[str, Any]
