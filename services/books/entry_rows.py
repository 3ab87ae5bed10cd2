"""How an entry becomes a row of ``ledger.entry``, and a row an entry, or the event in it, again."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter, itemgetter
from typing import Any

from services.books.columns import ACT, AMOUNTS, ATTRIBUTION, CLAIM, COUNTS, IDENTITY
from services.domain.entries import Attribution, Entry, EntryKind, Quantities, quantities_of
from services.domain.rating import Amounts
from services.domain.usage import Claim, EventType, UsageEvent

Row = Mapping[Any, Any]
"""One row of ``ledger.entry``, or of its view, by the names of its columns."""

_CLAIM_SOURCE = {True: "platform", False: "byok"}
# Where a field of the event is not called like its column.
_FIELDS = {"event_source": "source", "event_id": "id", "event_type": "type.value"}
_said = attrgetter(*(_FIELDS.get(name, name) for name in (*IDENTITY, *ACT)))
_counts = itemgetter(*COUNTS)


def entry_row(entry: Entry, payload_hash: bytes) -> tuple[Any, ...]:
    """The values of the columns ``BOOKED``."""
    event, what = entry.event, entry.attribution
    return (
        entry.entry_id,
        entry.kind.value,
        entry.revision,
        entry.adjusts,
        entry.registry_seq,
        *_said(event),
        *_claim_values(event.claim),
        payload_hash,
        *entry.quantities,
        *_attribution_values(what),
        *what.amounts,
    )


def event_columns(event: UsageEvent) -> dict[str, Any]:
    """What a charge or a correction says of the event and of how much was used."""
    values = (*_said(event), *_claim_values(event.claim), *quantities_of(event))
    return dict(zip((*IDENTITY, *ACT, *CLAIM, *COUNTS), values, strict=True))


def attribution_columns(what: Attribution) -> dict[str, Any]:
    """What a row says of an attribution: ``ATTRIBUTION`` and ``AMOUNTS``."""
    values = (*_attribution_values(what), *what.amounts, what.amounts.saved_mc)
    return dict(zip((*ATTRIBUTION, *AMOUNTS), values, strict=True))


def event_of(row: Row) -> UsageEvent:
    """The event that an entry books. What a reversal negates is turned back.

    Raises ValueError for a type of event that is none.
    """
    event_type = EventType(row["event_type"])
    return UsageEvent(
        org_id=row["org_id"],
        source=row["event_source"],
        id=row["event_id"],
        type=event_type,
        occurred_at=row["occurred_at"],
        user_id=row["user_id"],
        team_id=row["team_id"],
        run_id=row["run_id"],
        agent_id=row["agent_id"],
        workflow_id=row["workflow_id"],
        parent_run_id=row["parent_run_id"],
        node=row["node"],
        tool=row["tool"],
        provider=row["provider"],
        model=row["model"],
        calls=abs(row["quantity"]) if event_type.counts_calls else 0,
        succeeded=row["succeeded"],
        input_tokens=abs(row["input_tokens"]),
        cached_input_tokens=abs(row["cached_input_tokens"]),
        output_tokens=abs(row["output_tokens"]),
        claim=None if row["claim_source"] is None else Claim(row["claim_credential_id"]),
    )


def entry_of(row: Row) -> Entry:
    """The entry in a row that has the columns ``BOOKED``."""
    return Entry(
        entry_id=row["entry_id"],
        kind=EntryKind(row["kind"]),
        revision=row["revision"],
        adjusts=row["adjusts"],
        event=event_of(row),
        quantities=Quantities(*_counts(row)),
        attribution=_attribution_of(row),
        registry_seq=row["registry_seq"],
    )


def _attribution_of(row: Row) -> Attribution:
    return Attribution(
        key_source=row["key_source"],
        byok_scope=row["byok_scope"],
        credential_id=row["credential_id"],
        reason=row["reason"],
        flags=tuple(row["flags"]),
        rate_card=row["rate_card"],
        tier=row["tier"],
        amounts=Amounts(row["list_mc"], row["charged_mc"]),
    )


def _attribution_values(what: Attribution) -> tuple[Any, ...]:
    # A list, for the database takes a tuple for one value of several parts.
    flags = list(what.flags)
    return what.key_source, what.byok_scope, what.credential_id, what.reason, flags, what.rate_card, what.tier


def _claim_values(claim: Claim | None) -> tuple[str | None, str | None]:
    return (None, None) if claim is None else (_CLAIM_SOURCE[claim.is_platform], claim.credential_id)
