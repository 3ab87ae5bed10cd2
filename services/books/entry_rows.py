"""How an entry becomes a row of ``ledger.entry``, and a row an entry, or the event in it, again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from services.books.columns import ACT, AMOUNTS, ATTRIBUTION, CLAIM, COUNTS, IDENTITY, SERVED, USAGE
from services.domain.entries import Attribution, Entry, EntryKind, Quantities, quantities_of
from services.domain.rating import Amounts
from services.domain.usage import Claim, EventType, Tokens, UsageEvent, tokens_in
from services.domain.values import instant_text

Row = Mapping[Any, Any]
"""One row of ``ledger.entry``, or of its view, by the names of its columns."""

_CLAIM_SOURCE = {True: "platform", False: "byok"}
# Where a field of the event is not called like its column.
_FIELDS = {"event_source": "source", "event_id": "id", "event_type": "type.value"}
_EVIDENCE = ("provider_request_id", "provider_cost_usd")
NULL = "\x01"
"""What stands for nothing in a line: no text of an entry is that."""
COPY_FORMAT = r"(FORMAT text, NULL E'\x01')"
_NOTHING_CLAIMED = f"{NULL}\t{NULL}"
_NOTHING_SERVED = f"{NULL}\t{NULL}"
_whose = attrgetter("key_source", "byok_scope", "credential_id", "reason")
_by_what = attrgetter("rate_card", "tier", "priced_model")
_said = attrgetter(*(_FIELDS.get(name, name) for name in (*IDENTITY, *ACT)))
_counts = itemgetter(*COUNTS)


def entry_line(entry: Entry, payload_hash: bytes, partition_id: int, offset: int, index: int) -> str:
    """An entry, and where its event was read, as a line of ``COPY_FORMAT``: the columns ``BOOKED`` and ``PLACE``.

    Backslashes stand in it as they are: ``copy_text`` doubles them in all lines at once. None of the texts of an entry
    has control characters; one that had would be refused by the database, for it would make more columns, or lines.
    """
    event, what, counts = entry.event, entry.attribution, entry.quantities
    claim, amounts = event.claim, what.amounts
    adjusts = NULL if entry.adjusts is None else entry.adjusts.hex
    claimed = (
        _NOTHING_CLAIMED if claim is None else f"{_CLAIM_SOURCE[claim.is_platform]}\t{claim.credential_id or NULL}"
    )
    served = _served_text(event) if _says_what_was_served(event) else _NOTHING_SERVED
    usage = orjson.dumps(dict(event.usage)).decode() if event.usage else NULL
    return (
        f"{entry.entry_id.hex}\t{entry.kind!s}\t{entry.revision}\t{adjusts}\t{entry.registry_seq}"
        f"\t{event.org_id}\t{event.source}\t{event.id}\t{event.type!s}\t{instant_text(event.occurred_at)}"
        f"\t{event.user_id}\t{event.team_id or NULL}\t{event.run_id or NULL}\t{event.agent_id or NULL}"
        f"\t{event.workflow_id or NULL}\t{event.parent_run_id or NULL}\t{event.node or NULL}\t{event.tool or NULL}"
        f"\t{event.provider or NULL}\t{event.model or NULL}\t{event.succeeded}\t{claimed}\t{served}"
        f"\t\\x{payload_hash.hex()}\t{counts.quantity}\t{counts.input_tokens}\t{counts.cached_input_tokens}"
        f"\t{counts.output_tokens}\t{usage}\t{what.key_source}\t{what.byok_scope or NULL}\t{what.credential_id or NULL}"
        f"\t{what.reason}\t{{{','.join(what.flags)}}}\t{what.rate_card}\t{what.tier or NULL}"
        f"\t{what.priced_model or NULL}\t{amounts.list_mc}\t{amounts.charged_mc}\t{partition_id}\t{offset}\t{index}\n"
    )


def _says_what_was_served(event: UsageEvent) -> bool:
    return bool(event.conditions or event.is_partial or event.provider_request_id or event.provider_cost_usd)


def _served_text(event: UsageEvent) -> str:
    return "\t".join(NULL if value is None else orjson.dumps(value).decode() for value in _served_values(event))


def copy_text(lines: Iterable[str]) -> bytes:
    """Lines as COPY takes them."""
    return "".join(lines).replace("\\", "\\\\").encode()


def event_columns(event: UsageEvent) -> dict[str, Any]:
    """What a charge or a correction says of the event and of how much was used."""
    values = (
        *_said(event),
        *_claim_values(event.claim),
        *_served_values(event),
        *quantities_of(event),
        dict(event.usage) or None,
    )
    return dict(zip((*IDENTITY, *ACT, *CLAIM, *SERVED, *COUNTS, USAGE), values, strict=True))


def attribution_columns(what: Attribution) -> dict[str, Any]:
    """What a row says of an attribution: ``ATTRIBUTION`` and ``AMOUNTS``."""
    values = (*_attribution_values(what), *what.amounts, what.amounts.saved_mc)
    return dict(zip((*ATTRIBUTION, *AMOUNTS), values, strict=True))


def event_of(row: Row) -> UsageEvent:
    """The event that an entry books. What a reversal negates is turned back.

    Raises ValueError for a type of event that is none.
    """
    event_type = EventType(row["event_type"])
    evidence = row["evidence"] or {}
    usage = {unit: abs(count) for unit, count in (row[USAGE] or {}).items()}
    # Counted by unit, the tokens follow from it: so a row in which the two differ is not what its event says.
    tokens = tokens_in(usage) if usage else _tokens_in_columns(row)
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
        **tokens,
        claim=None if row["claim_source"] is None else Claim(row["claim_credential_id"]),
        usage=tuple(sorted(usage.items())),
        conditions=tuple(sorted((row["conditions"] or {}).items())),
        is_partial=evidence.get("usage_status") == "partial",
        provider_request_id=evidence.get("provider_request_id"),
        provider_cost_usd=evidence.get("provider_cost_usd"),
    )


def _tokens_in_columns(row: Row) -> Tokens:
    return {
        "input_tokens": abs(row["input_tokens"]),
        "cached_input_tokens": abs(row["cached_input_tokens"]),
        "output_tokens": abs(row["output_tokens"]),
    }


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
        priced_model=row["priced_model"],
        amounts=Amounts(row["list_mc"], row["charged_mc"]),
    )


def _attribution_values(what: Attribution) -> tuple[Any, ...]:
    # A list, for the database takes a tuple for one value of several parts.
    return *_whose(what), list(what.flags), *_by_what(what)


def _served_values(event: UsageEvent) -> tuple[Any, Any]:
    """The columns ``SERVED``; NULL where nothing was said."""
    said = {name: value for name in _EVIDENCE if (value := getattr(event, name)) is not None}
    if event.is_partial:
        said["usage_status"] = "partial"
    return dict(event.conditions) or None, said or None


def _claim_values(claim: Claim | None) -> tuple[str | None, str | None]:
    return (None, None) if claim is None else (_CLAIM_SOURCE[claim.is_platform], claim.credential_id)
